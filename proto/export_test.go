package proto

// Problems lists every kind; TestProtocolListsProblems counts them.
func Problems() []*Problem {
	return []*Problem{
		ProblemInvalidJSON, ProblemInvalidMessage, ProblemInvalidParameter, ProblemUnauthorized, ProblemForbidden,
		ProblemOrigin, ProblemNotFound, ProblemMethod, ProblemGone, ProblemTooLarge, ProblemHeaderTooLarge,
		ProblemMediaType,
		ProblemUpgrade, ProblemTooManyRequests, ProblemTimeout, ProblemInternal, ProblemUnavailable, ProblemNotStored,
	}
}
