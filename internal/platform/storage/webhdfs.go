package storage

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"time"
)

const (
	webHDFSPrefix = "/webhdfs/v1"
	octetStream   = "application/octet-stream"
	// maxAnswer bounds the JSON answers of a name node, which are small.
	maxAnswer = 64 << 10
)

// webHDFS is an http:// or https:// provider: a name node, which redirects to data nodes for what files hold.
type webHDFS struct {
	base      *url.URL // without user
	user      *url.Userinfo
	transport http.RoundTripper // not a client: that would follow redirections, and quote their tokens in its errors
	timeout   time.Duration
	negotiate Negotiator
}

func newWebHDFS(u *url.URL, cfg Config) provider {
	base := *u
	base.User = nil
	base.Path = strings.TrimSuffix(u.Path, "/")
	transport := cfg.Transport
	if transport == nil {
		transport = &http.Transport{
			Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: cfg.Timeout}).DialContext,
			TLSHandshakeTimeout: cfg.Timeout, ResponseHeaderTimeout: cfg.Timeout, IdleConnTimeout: 90 * time.Second,
			DisableCompression: true, MaxIdleConnsPerHost: 8,
		}
	}
	negotiate := cfg.Negotiate
	if negotiate == nil {
		negotiate = TicketCache()
	}
	return &webHDFS{base: &base, user: u.User, transport: transport, timeout: cfg.Timeout, negotiate: negotiate}
}

func (w *webHDFS) name() string { return w.base.Scheme + ":" + w.base.Host }

// params are the parameters of an operation, in the order of the documentation.
type params [][2]string

func (w *webHDFS) address(name string, ps params) string {
	u := *w.base
	u.RawPath = w.base.EscapedPath() + webHDFSPrefix + escaped(name)
	u.Path += webHDFSPrefix + name
	var query []string
	for _, p := range ps {
		query = append(query, p[0]+"="+url.QueryEscape(p[1]))
	}
	if _, hasPassword := w.user.Password(); w.user != nil && !hasPassword {
		query = append(query, "user.name="+url.QueryEscape(w.user.Username()))
	}
	u.RawQuery = strings.Join(query, "&")
	return u.String()
}

// escaped leaves nothing in a path that a server may take for more than a letter: what follows a semicolon is a parameter to
// some (contract: exports.md 11.1).
func escaped(name string) string {
	var b strings.Builder
	for i := range len(name) {
		switch c := name[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("/=_.~-", c) >= 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// ask sends one operation to the name node and answers its Kerberos challenge once.
func (w *webHDFS) ask(ctx context.Context, method, name string, ps params) (*http.Response, error) {
	response, err := w.askOnce(ctx, method, name, ps, false)
	if err != nil || response.StatusCode != http.StatusUnauthorized || !challenges(response) {
		return response, err
	}
	discard(response)
	return w.askOnce(ctx, method, name, ps, true)
}

func (w *webHDFS) askOnce(ctx context.Context, method, name string, ps params, negotiate bool) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, w.address(name, ps), nil)
	if err != nil {
		return nil, errors.New("make the request")
	}
	w.authorize(request)
	if negotiate {
		if err := w.negotiate(request); err != nil {
			return nil, fmt.Errorf("answer the Kerberos challenge: %w", err)
		}
	}
	return w.send(request)
}

func (w *webHDFS) authorize(request *http.Request) {
	if password, has := w.user.Password(); has {
		request.SetBasicAuth(w.user.Username(), password)
	}
}

func (w *webHDFS) send(request *http.Request) (*http.Response, error) {
	request.Header.Set("Content-Type", octetStream)
	return w.transport.RoundTrip(request)
}

// follow is the second step of reading and writing: one redirect, to the data node.
func (w *webHDFS) follow(ctx context.Context, method string, response *http.Response, body io.Reader) (*http.Response, error) {
	discard(response)
	location := response.Header.Get("Location")
	target, err := w.base.Parse(location)
	if err != nil || location == "" || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, errors.New("the name node redirects to nowhere")
	}
	if w.base.Scheme == "https" && target.Scheme != "https" {
		return nil, errors.New("the name node redirects from https to http")
	}
	request, err := http.NewRequestWithContext(ctx, method, target.String(), body)
	if err != nil {
		return nil, errors.New("make the request to the data node")
	}
	// A gateway redirects to itself and wants to know us again; a data node has its token in the URL.
	if target.Host == w.base.Host && target.Scheme == w.base.Scheme {
		w.authorize(request)
	}
	return w.send(request)
}

func isRedirect(response *http.Response) bool {
	return response.StatusCode == http.StatusTemporaryRedirect || response.StatusCode == http.StatusFound ||
		response.StatusCode == http.StatusSeeOther || response.StatusCode == http.StatusMovedPermanently ||
		response.StatusCode == http.StatusPermanentRedirect
}

// call is an operation whose whole answer is JSON, decoded into answer.
func (w *webHDFS) call(ctx context.Context, method, name string, ps params, answer any) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	response, err := w.ask(ctx, method, name, ps)
	if err != nil {
		return err
	}
	defer discard(response)
	if response.StatusCode != http.StatusOK {
		return refusal(response)
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(answer); err != nil {
		return errors.New("the answer is not the JSON of WebHDFS")
	}
	return nil
}

// refusal reads the error of an answer (contract: exports.md 11.1).
func refusal(response *http.Response) error {
	body, _ := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if response.StatusCode == http.StatusUnauthorized {
		return &remoteError{exception: "answered 401", message: "Authentication failure. Check your credentials."}
	}
	var said struct {
		RemoteException struct{ Exception, Message string }
	}
	if json.Unmarshal(body, &said) != nil || said.RemoteException.Exception == "" {
		return notWebHDFS(response, body)
	}
	failure := &remoteError{exception: said.RemoteException.Exception, message: firstLine(said.RemoteException.Message)}
	if failure.exception == "FileNotFoundException" {
		failure.is = ErrNotExist
	}
	return failure
}

// notWebHDFS is about an answer that WebHDFS did not give: a proxy, a wrong server. Its text is kept if it is a line of text.
func notWebHDFS(response *http.Response, body []byte) error {
	kind, _, _ := mime.ParseMediaType(response.Header.Get("Content-Type"))
	message := firstLine(string(body))
	if message == "" || kind != "text/plain" {
		message = fmt.Sprintf("The storage server answered %d", response.StatusCode)
	}
	return &remoteError{exception: fmt.Sprintf("answered %d", response.StatusCode), message: message}
}

// discard lets the connection be used again.
func discard(response *http.Response) {
	_, _ = io.CopyN(io.Discard, response.Body, maxAnswer)
	_ = response.Body.Close()
}

func (w *webHDFS) stat(ctx context.Context, name string) (Info, error) {
	var answer struct {
		FileStatus *struct {
			Length int64  `json:"length"`
			Type   string `json:"type"`
		}
	}
	if err := w.call(ctx, http.MethodGet, name, params{{"op", "GETFILESTATUS"}}, &answer); err != nil {
		return Info{}, err
	}
	if answer.FileStatus == nil || answer.FileStatus.Length < 0 {
		return Info{}, errors.New("the answer is not the file status of WebHDFS")
	}
	return Info{Size: answer.FileStatus.Length, Dir: answer.FileStatus.Type == "DIRECTORY"}, nil
}

// open asks the size once, then reads (conformance: exports/download/owner).
func (w *webHDFS) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	info, err := w.stat(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	if info.Dir {
		return nil, 0, notFile(name)
	}
	reading, watch := newWatch(ctx, w.timeout)
	response, err := w.ask(reading, http.MethodGet, name, params{{"op", "OPEN"}, {"offset", "0"}})
	if err == nil && isRedirect(response) {
		response, err = w.follow(reading, http.MethodGet, response, nil)
	}
	if err == nil && response.StatusCode != http.StatusOK {
		err = refusal(response)
		discard(response)
	}
	if err != nil {
		watch.end()
		return nil, 0, stalled(ctx, err)
	}
	return exactly(ctx, &watchedBody{ReadCloser: response.Body, ctx: ctx, watch: watch}, info.Size), info.Size, nil
}

// remove: false means that there was nothing, which is no error (contract: exports.md 11.1).
func (w *webHDFS) remove(ctx context.Context, name string) error {
	var answer struct{ Boolean bool }
	return w.call(ctx, http.MethodDelete, name, params{{"op", "DELETE"}, {"recursive", "False"}}, &answer)
}

func (w *webHDFS) rename(ctx context.Context, from, to string) (bool, error) {
	var answer struct{ Boolean bool }
	err := w.call(ctx, http.MethodPut, from, params{{"op", "RENAME"}, {"destination", to}}, &answer)
	return answer.Boolean, err
}

func (w *webHDFS) create(ctx context.Context, name string) (Writer, error) {
	var made struct{ Boolean bool }
	if err := w.call(ctx, http.MethodPut, path.Dir(name), params{{"op", "MKDIRS"}, {"permission", "700"}}, &made); err != nil {
		return nil, err
	}
	if !made.Boolean {
		return nil, &remoteError{exception: "MKDIRS refused", message: "Cannot create directory: " + path.Dir(name)}
	}
	temporary := temporaryName(name)
	writing, watch := newWatch(ctx, w.timeout)
	response, err := w.ask(writing, http.MethodPut, temporary, params{{"op", "CREATE"}, {"overwrite", "true"}, {"permission", "600"}})
	if err == nil && !isRedirect(response) {
		err = refusal(response)
		discard(response)
	}
	if err != nil {
		watch.end()
		return nil, stalled(ctx, err)
	}
	return startWriting(ctx, writing, w, watch, response, temporary, name), nil
}
