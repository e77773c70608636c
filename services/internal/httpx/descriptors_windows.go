package httpx

// OpenFilesLimit: Windows has none worth naming.
func OpenFilesLimit() (n uint64, ok bool) { return 0, false }
