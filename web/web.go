// Package web is Herald's pages as a file system: the console, the demo page, the
// JavaScript client, and what they share. What is in git is what runs: no bundler, no
// generated file, nothing fetched from elsewhere.
//
// A server shows demo/index.html at /, favicon.ico at /favicon.ico, and the
// folders under their names; the console the same way below /admin/, with
// admin/index.html as its page. The pages hold to the strictest
// Content-Security-Policy that lets them load their own files and connect
// home; they have no inline script or style.
package web

import "embed"

// FS has the folders admin (the console), client, demo, shared and third_party,
// and favicon.ico. The tests beside them are not in it.
//
//go:embed admin client demo shared third_party favicon.ico
var FS embed.FS
