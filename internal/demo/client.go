package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"net/url"
	"strings"
)

const (
	maxAnswer   = 16 << 20
	maxDownload = 256 << 20
	// requestMethod tells the server how the token was made; the front-ends send it with every call.
	requestMethod = "JWT"
)

// client calls the API as one user.
type client struct {
	base  string
	http  *http.Client
	token string // printed nowhere
}

// account is who signed in. Email is used to find the mailbox, and printed nowhere.
type account struct {
	Username    string `json:"username"`
	DisplayName string `json:"display_name"`
	Email       string `json:"email"`
}

// unexpected is an answer with another status than the one that was due.
type unexpected struct {
	method, path string
	want, got    int
	body         string
}

func (e *unexpected) Error() string {
	return fmt.Sprintf("%s %s answered %d, not %d: %s", e.method, e.path, e.got, e.want, e.body)
}

// signIn posts the form of the front-end's login page.
func signIn(ctx context.Context, base string, hc *http.Client, who Login) (*client, account, error) {
	c := &client{base: strings.TrimSuffix(base, "/"), http: hc, token: "null"} // literally what the front-end sends before
	var form bytes.Buffer
	w := multipart.NewWriter(&form)
	err := errors.Join(w.WriteField("username", who.Username), w.WriteField("password", who.Password), w.Close())
	if err != nil {
		return nil, account{}, fmt.Errorf("sign in: %w", err)
	}
	var answer struct {
		Token string  `json:"access_token"`
		User  account `json:"user"`
	}
	err = c.send(ctx, request{method: http.MethodPost, path: "/auth/login/", body: &form, kind: w.FormDataContentType(), want: http.StatusOK}, &answer)
	if err != nil {
		return nil, account{}, fmt.Errorf("sign in as %s: %w", who.Username, err)
	}
	if answer.Token == "" || answer.User.Username != who.Username {
		return nil, account{}, fmt.Errorf("sign in as %s: the answer holds no token, or is about somebody else", who.Username)
	}
	c.token = answer.Token
	return c, answer.User, nil
}

type fields = map[string]any

func (c *client) get(ctx context.Context, path string, into any) error {
	return c.send(ctx, request{method: http.MethodGet, path: path, want: http.StatusOK}, into)
}

// post creates something: anything but a 201 is a deviation.
func (c *client) post(ctx context.Context, path string, body fields, into any) error {
	return c.call(ctx, http.MethodPost, path, body, http.StatusCreated, into)
}

// call sends JSON and expects one status; into is nil where the answer does not matter.
func (c *client) call(ctx context.Context, method, path string, body fields, want int, into any) error {
	raw, err := json.Marshal(body)
	if err != nil {
		return fmt.Errorf("%s %s: %w", method, path, err)
	}
	return c.send(ctx, request{method: method, path: path, body: bytes.NewReader(raw), kind: "application/json", want: want}, into)
}

type request struct {
	method, path string
	body         io.Reader
	kind         string // media type of the body
	want         int
}

func (c *client) send(ctx context.Context, r request, into any) error {
	answer, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Body.Close() }()
	raw, err := io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return fmt.Errorf("%s %s: read the answer: %w", r.method, r.path, err)
	}
	if answer.StatusCode != r.want {
		return &unexpected{r.method, r.path, r.want, answer.StatusCode, excerpt(raw)}
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%s %s: the answer is not what it should be: %w", r.method, r.path, err)
	}
	return nil
}

// do sends a request and hands the answer out as it comes.
func (c *client) do(ctx context.Context, r request) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, r.method, c.base+r.path, r.body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.token)
	req.Header.Set("authorizationMethod", requestMethod)
	if r.kind != "" {
		req.Header.Set("Content-Type", r.kind)
	}
	answer, err := c.http.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // the address is in the message already
		}
		return nil, fmt.Errorf("%s %s: %w", r.method, r.path, err)
	}
	return answer, nil
}

// download reads a file whole, and the name that the browser would give it.
func (c *client) download(ctx context.Context, path string) (name string, content []byte, err error) {
	answer, err := c.do(ctx, request{method: http.MethodGet, path: path})
	if err != nil {
		return "", nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err = io.ReadAll(io.LimitReader(answer.Body, maxDownload+1))
	switch {
	case err != nil:
		return "", nil, fmt.Errorf("GET %s: read the file: %w", path, err)
	case answer.StatusCode != http.StatusOK:
		return "", nil, &unexpected{http.MethodGet, path, http.StatusOK, answer.StatusCode, excerpt(content)}
	case len(content) > maxDownload:
		return "", nil, fmt.Errorf("GET %s: the file has more than %d bytes", path, maxDownload)
	}
	_, params, err := mime.ParseMediaType(answer.Header.Get("Content-Disposition"))
	if err != nil || params["filename"] == "" {
		return "", nil, fmt.Errorf("GET %s: the answer gives the file no name", path)
	}
	return params["filename"], content, nil
}

// excerpt is the beginning of a body, on one line.
func excerpt(body []byte) string {
	text := []rune(strings.Join(strings.Fields(strings.ToValidUTF8(string(body), "?")), " "))
	if len(text) > 300 {
		return string(text[:300]) + "…"
	}
	return string(text)
}
