package web

import (
	"bytes"
	"io"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"

	"cohortflow/internal/platform/fault"
)

// decodeForm reads a=1&b=2; the last value of a repeated name counts.
func decodeForm(raw []byte) (Object, error) {
	values, err := url.ParseQuery(string(raw))
	if err != nil {
		return nil, fault.Detail(http.StatusBadRequest, "The form could not be read.")
	}
	o := Object{}
	for name, list := range values {
		o[name] = strings.ToValidUTF8(list[len(list)-1], "\uFFFD")
	}
	return o, nil
}

// decodeMultipart reads the fields of a multipart form; files are read like fields, for no route takes one.
func decodeMultipart(raw []byte, boundary string) (Object, error) {
	malformed := fault.Detail(http.StatusBadRequest, "Multipart form parse error - the body is not as its boundary says.")
	if boundary == "" {
		return nil, fault.Detail(http.StatusBadRequest, "Multipart form parse error - Invalid boundary in multipart: None")
	}
	r := multipart.NewReader(bytes.NewReader(raw), boundary)
	o := Object{}
	for {
		part, err := r.NextPart()
		if err == io.EOF {
			return o, nil
		}
		if err != nil {
			return nil, malformed
		}
		value, err := io.ReadAll(part)
		if err != nil {
			return nil, malformed
		}
		o[part.FormName()] = strings.ToValidUTF8(string(value), "\uFFFD")
	}
}
