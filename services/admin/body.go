package admin

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// maxBody bounds the body of a call that has no limit of its own.
const maxBody = 64 << 10

// readJSON reads the body of a call into v: one JSON object with no members but
// those of v. Errors are problems.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	// Another content type could come from a form of another page.
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return proto.ProblemMediaType.With("want application/json")
	}
	b, err := httpx.ReadBody(w, r, maxBody)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err = d.Decode(v)
	if err == nil {
		if _, err = d.Token(); errors.Is(err, io.EOF) {
			return nil
		}
		err = errors.New("there is more behind the object")
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("the body is empty")
	}
	return proto.ProblemInvalidJSON.With(err.Error())
}
