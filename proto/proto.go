// Package proto is Herald's contract: messages, client frames, ids, channels,
// subjects, close codes and problems. It encodes, decodes and validates, and
// it imports the standard library only, so that anybody may depend on it.
//
// PROTOCOL.md beside this file describes the same contract for writers of
// clients in other languages; the golden files in testdata hold both to it.
//
// Everything here is a plain value or a pure function: safe for concurrent
// use, never blocking, never keeping a reference to what it was given unless
// its comment says so.
package proto
