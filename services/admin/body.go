package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"reflect"
	"strings"

	"github.com/herald-push/herald/proto"
	"github.com/herald-push/herald/services/internal/httpx"
)

// maxBody bounds the body of a call that has no limit of its own.
const maxBody = 64 << 10

// readJSON reads the body of a call into v, a pointer to a struct: one JSON object whose
// members are those of v, in their exact case, each once. Errors are problems.
func readJSON(w http.ResponseWriter, r *http.Request, v any) error {
	if err := wantJSON(r); err != nil {
		return err
	}
	b, err := httpx.ReadBody(w, r, maxBody)
	if err != nil {
		return err
	}
	switch {
	case len(b) == 0:
		err = errors.New("the body is empty")
	default:
		err = proto.CheckData(b, maxBody) // one value, no member twice
	}
	if err == nil {
		err = checkMembers(b, reflect.TypeOf(v).Elem(), "")
	}
	if err == nil {
		err = worded(json.Unmarshal(b, v))
	}
	if err != nil {
		return proto.ProblemInvalidJSON.With(err.Error())
	}
	return nil
}

// wantJSON refuses what does not say that it is JSON, as it is: another content type could come from a form of
// another page. The error is a problem.
func wantJSON(r *http.Request) error {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return proto.ProblemMediaType.With("want application/json")
	}
	if e := strings.Join(r.Header["Content-Encoding"], ", "); e != "" && !strings.EqualFold(e, "identity") {
		return proto.ProblemMediaType.With(
			fmt.Sprintf("Content-Encoding %.40q is not supported; send the body as it is", e))
	}
	return nil
}

// checkMembers refuses members that a struct does not have. Package json would drop them,
// and accept "NAME" as "name". at is where the object stands in the body.
func checkMembers(b []byte, t reflect.Type, at string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || t.NumField() == 0 {
		return nil
	}
	var members map[string]json.RawMessage
	if json.Unmarshal(b, &members) != nil {
		return nil // it is no object, and worded says so
	}
	var known []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		known = append(known, name)
		if inside, given := members[name]; given {
			if err := checkMembers(inside, t.Field(i).Type, at+name+"."); err != nil {
				return err
			}
			delete(members, name)
		}
	}
	for name := range members {
		return fmt.Errorf("%.60q: unknown member; known are %s", at+name, strings.Join(known, ", "))
	}
	return nil
}

// worded says which JSON type is wrong and which is wanted, where package json names types of Go.
func worded(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return err
	}
	got := strings.Fields(wrong.Value)[0]
	if wrong.Field == "" {
		return fmt.Errorf("want a JSON object, got a JSON %s", got)
	}
	want := "an object"
	switch wrong.Type.Kind() {
	case reflect.String:
		want = "a string"
	case reflect.Bool:
		want = "true or false"
	case reflect.Slice:
		want = "an array"
	case reflect.Int, reflect.Float64:
		want = "a number"
		if got == "number" {
			return fmt.Errorf("%s: the number %.40s has no place there", wrong.Field,
				strings.TrimPrefix(wrong.Value, "number "))
		}
	}
	return fmt.Errorf("%s: want %s, got a JSON %s", wrong.Field, want, got)
}
