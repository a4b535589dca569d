package storage

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/user"
	"path"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
)

// nativeHDFS is an hdfs:// provider. Each operation has its own connection, as the library's wait for neither a context
// nor a deadline: the connections do that here.
type nativeHDFS struct {
	address string
	user    string
	timeout time.Duration
}

const namenodePort = "8020"

func newHDFS(u *url.URL, cfg Config) (provider, error) {
	if u.Path != "" && u.Path != "/" {
		return nil, errors.New("hdfs:// takes no path: paths are those of the file system")
	}
	h := &nativeHDFS{address: u.Host, user: cfg.User, timeout: cfg.Timeout}
	if u.Port() == "" {
		h.address = net.JoinHostPort(u.Hostname(), namenodePort)
	}
	if u.User != nil {
		h.user = u.User.Username()
	}
	if h.user == "" {
		who, err := user.Current()
		if err != nil {
			return nil, fmt.Errorf("find the user of this process: %w", err)
		}
		h.user = who.Username
	}
	return h, nil
}

func (h *nativeHDFS) name() string { return "hdfs:" + h.address }

// session is one client and the connections that it made.
type session struct {
	*hdfs.Client
	mu      sync.Mutex
	unwatch []func() bool
}

func (h *nativeHDFS) connect(ctx context.Context) (*session, error) {
	s := &session{}
	dial := func(_ context.Context, network, address string) (net.Conn, error) {
		conn, err := (&net.Dialer{Timeout: h.timeout}).DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unwatch = append(s.unwatch, context.AfterFunc(ctx, func() { _ = conn.Close() }))
		return &patientConn{Conn: conn, patience: h.timeout}, nil
	}
	// Data nodes by their names, as WebHDFS redirects to them: their addresses may be of another network.
	client, err := hdfs.NewClient(hdfs.ClientOptions{
		Addresses: []string{h.address}, User: h.user, UseDatanodeHostname: true, NamenodeDialFunc: dial, DatanodeDialFunc: dial,
	})
	if err != nil {
		s.forget()
		return nil, fmt.Errorf("connect to the name node: %w", err)
	}
	s.Client = client
	return s, nil
}

func (s *session) end() {
	s.forget()
	_ = s.Client.Close()
}

func (s *session) forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, unwatch := range s.unwatch {
		unwatch()
	}
}

func (h *nativeHDFS) stat(ctx context.Context, name string) (Info, error) {
	s, err := h.connect(ctx)
	if err != nil {
		return Info{}, err
	}
	defer s.end()
	info, err := s.Stat(name)
	if err != nil {
		return Info{}, nativeError(name, err)
	}
	return Info{Size: info.Size(), Dir: info.IsDir()}, nil
}

func (h *nativeHDFS) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	s, err := h.connect(ctx)
	if err != nil {
		return nil, 0, err
	}
	file, err := s.Open(name)
	if err != nil {
		s.end()
		return nil, 0, nativeError(name, err)
	}
	if file.Stat().IsDir() {
		s.end()
		return nil, 0, notFile(name)
	}
	size := file.Stat().Size()
	return exactly(ctx, &nativeReader{FileReader: file, session: s}, size), size, nil
}

type nativeReader struct {
	*hdfs.FileReader
	session *session
}

func (r *nativeReader) Close() error {
	err := r.FileReader.Close()
	r.session.end()
	return err
}

func (h *nativeHDFS) create(ctx context.Context, name string) (Writer, error) {
	s, err := h.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.MkdirAll(path.Dir(name), dirPerm); err != nil {
		s.end()
		return nil, nativeError(name, err)
	}
	temporary := temporaryName(name)
	file, err := s.Create(temporary)
	if err == nil {
		err = s.Chmod(temporary, filePerm)
	}
	if err != nil {
		s.end()
		return nil, nativeError(name, err)
	}
	return &nativeWriter{ctx: ctx, file: file, session: s, patience: h.timeout, temporary: temporary, target: name}, nil
}

func (h *nativeHDFS) remove(ctx context.Context, name string) error {
	s, err := h.connect(ctx)
	if err != nil {
		return err
	}
	defer s.end()
	if err := s.Remove(name); err != nil {
		return nativeError(name, err)
	}
	return nil
}

// nativeWriter is a file being written to HDFS.
type nativeWriter struct {
	ctx               context.Context
	file              *hdfs.FileWriter
	session           *session
	patience          time.Duration
	temporary, target string
	ended             bool
}

func (w *nativeWriter) Write(p []byte) (int, error) { return w.file.Write(p) }

func (w *nativeWriter) Commit() error {
	if w.ended {
		return errEnded
	}
	w.ended = true
	defer w.session.end()
	err := w.complete()
	if err == nil {
		err = w.session.Rename(w.temporary, w.target)
	}
	if err != nil {
		_ = w.session.Remove(w.temporary)
		return fmt.Errorf("commit file: %w", nativeError(w.target, err))
	}
	return nil
}

// complete closes the file. While the data nodes have all bytes but the name node does not know yet, it is to be asked
// again, less and less often (the library's own advice).
func (w *nativeWriter) complete() error {
	var waited time.Duration
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		err := w.file.Close()
		if !hdfs.IsErrReplicating(err) || waited > w.patience {
			return err
		}
		select {
		case <-w.ctx.Done():
			return w.ctx.Err()
		case <-time.After(pause):
			waited += pause
		}
	}
}

func (w *nativeWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	defer w.session.end()
	_ = w.file.Close()
	if err := w.session.Remove(w.temporary); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("abort file: %w", nativeError(w.target, err))
	}
	return nil
}

// nativeError keeps the message of the name node, without the stack trace that it appends.
func nativeError(name string, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return notExist(name)
	}
	var remote hdfs.Error
	if errors.As(err, &remote) {
		return &remoteError{exception: path.Ext("." + remote.Exception())[1:], message: firstLine(remote.Message())}
	}
	if errors.Is(err, os.ErrPermission) {
		return &remoteError{exception: "AccessControlException", message: "Permission denied: " + name}
	}
	return bare(err)
}

// patientConn gives every read and write its time.
type patientConn struct {
	net.Conn
	patience time.Duration
}

func (c *patientConn) Read(p []byte) (int, error) {
	if err := c.SetReadDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Read(p)
}

func (c *patientConn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}
