package main

import "github.com/herald-push/herald/services/internal/proctest"

// Real processes, and what they answer.
var (
	start = proctest.Command
	post  = proctest.Post
	get   = proctest.Get
)
