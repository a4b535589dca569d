// Package webhdfssim is a double of WebHDFS over a directory: the operations that the product uses on exported files, and
// the few that put files there (contract: peers.md 7). Simulate serves it; the export double writes into the same
// directory. It is NameNode and DataNode in one: reads are redirected, as in a real cluster, to a path of its own. It
// asks for no authentication.
package webhdfssim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
)

const (
	nameNode = "/webhdfs/v1"
	dataNode = "/datanode/webhdfs/v1"
)

// Server is the double; it is an http.Handler.
type Server struct {
	root    *os.Root
	standby atomic.Bool
}

// New makes a server over a directory, which it makes if need be. No path leads out of it.
func New(dir string) (*Server, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fmt.Errorf("simulated WebHDFS: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("simulated WebHDFS: %w", err)
	}
	return &Server{root: root}, nil
}

// SetStandby lets the NameNode refuse everything, as the passive one of a pair does.
func (s *Server) SetStandby(standby bool) { s.standby.Store(standby) }

// WriteFile puts a file there, with the directories above it. The path is that of HDFS.
func (s *Server) WriteFile(name string, data []byte) error {
	name = inside(name)
	if dir := path.Dir(name); dir != "." {
		if err := s.root.MkdirAll(dir, 0o750); err != nil {
			return fmt.Errorf("simulated WebHDFS: %w", err)
		}
	}
	if err := s.root.WriteFile(name, data, 0o640); err != nil {
		return fmt.Errorf("simulated WebHDFS: %w", err)
	}
	return nil
}

// inside turns a path of HDFS into one relative to the root.
func inside(name string) string {
	return filepath.FromSlash(strings.TrimPrefix(path.Clean("/"+name), "/"))
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if name, ok := strings.CutPrefix(r.URL.Path, dataNode); ok {
		s.data(w, r, name)
		return
	}
	name, ok := strings.CutPrefix(r.URL.Path, nameNode)
	if !ok {
		remote(w, http.StatusNotFound, "FileNotFoundException", "unknown path")
		return
	}
	if s.standby.Load() {
		remote(w, http.StatusForbidden, "StandbyException", "Operation category READ is not supported in state standby")
		return
	}
	relative := inside(name)
	if relative == "" {
		relative = "."
	}
	s.operate(w, r, name, relative)
}

func (s *Server) operate(w http.ResponseWriter, r *http.Request, name, relative string) {
	op := strings.ToUpper(r.URL.Query().Get("op"))
	switch r.Method + " " + op {
	case "GET GETFILESTATUS":
		info, err := s.root.Stat(relative)
		if err != nil {
			refuse(w, name, err)
			return
		}
		answer(w, map[string]any{"FileStatus": status(info, "")})
	case "GET LISTSTATUS":
		s.list(w, name, relative)
	case "GET OPEN":
		info, err := s.root.Stat(relative)
		if err == nil && info.IsDir() {
			err = fs.ErrNotExist
		}
		if err != nil {
			refuse(w, name, err)
			return
		}
		redirect(w, r, name)
	case "PUT CREATE":
		redirect(w, r, name)
	case "PUT MKDIRS":
		if err := s.root.MkdirAll(relative, 0o750); err != nil {
			refuse(w, name, err)
			return
		}
		answer(w, map[string]bool{"boolean": true})
	case "DELETE DELETE":
		s.remove(w, r, name, relative)
	default:
		remote(w, http.StatusBadRequest, "UnsupportedOperationException", "Invalid value for webhdfs parameter \"op\"")
	}
}

// redirect sends the caller to the DataNode, which here is another path of the same server.
func redirect(w http.ResponseWriter, r *http.Request, name string) {
	target := url.URL{Scheme: "http", Host: r.Host, Path: dataNode + name, RawQuery: r.URL.RawQuery}
	w.Header().Set("Location", target.String())
	w.WriteHeader(http.StatusTemporaryRedirect)
}

func (s *Server) list(w http.ResponseWriter, name, relative string) {
	entries, err := fs.ReadDir(s.root.FS(), filepath.ToSlash(relative))
	if err != nil {
		refuse(w, name, err)
		return
	}
	all := []map[string]any{}
	for _, entry := range entries {
		if info, err := entry.Info(); err == nil { // else it is gone meanwhile
			all = append(all, status(info, entry.Name()))
		}
	}
	answer(w, map[string]any{"FileStatuses": map[string]any{"FileStatus": all}})
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request, name, relative string) {
	info, err := s.root.Stat(relative)
	if errors.Is(err, fs.ErrNotExist) || relative == "." {
		answer(w, map[string]bool{"boolean": false})
		return
	}
	if err == nil {
		if info.IsDir() && strings.EqualFold(r.URL.Query().Get("recursive"), "true") {
			err = s.root.RemoveAll(relative)
		} else {
			err = s.root.Remove(relative)
		}
	}
	if err != nil {
		refuse(w, name, err)
		return
	}
	answer(w, map[string]bool{"boolean": true})
}

// data is the DataNode: it gives and takes the bytes of files.
func (s *Server) data(w http.ResponseWriter, r *http.Request, name string) {
	relative := inside(name)
	switch {
	case r.Method == http.MethodPut:
		if dir := filepath.Dir(relative); dir != "." {
			if err := s.root.MkdirAll(dir, 0o750); err != nil {
				refuse(w, name, err)
				return
			}
		}
		file, err := s.root.Create(relative)
		if err == nil {
			_, err = io.Copy(file, r.Body)
			err = errors.Join(err, file.Close())
		}
		if err != nil {
			refuse(w, name, err)
			return
		}
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodGet:
		s.read(w, r, name, relative)
	default:
		remote(w, http.StatusBadRequest, "UnsupportedOperationException", "not of a DataNode")
	}
}

func (s *Server) read(w http.ResponseWriter, r *http.Request, name, relative string) {
	file, err := s.root.Open(relative)
	if err != nil {
		refuse(w, name, err)
		return
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		refuse(w, name, err)
		return
	}
	offset, length, err := window(r.URL.Query(), info.Size())
	if err != nil {
		remote(w, http.StatusBadRequest, "IllegalArgumentException", err.Error())
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("Content-Length", strconv.FormatInt(length, 10))
	_, _ = io.Copy(w, io.NewSectionReader(file, offset, length)) // the reader may be gone
}

// window reads offset and length, within the size of the file.
func window(query url.Values, size int64) (offset, length int64, err error) {
	length = size
	for key, value := range map[string]*int64{"offset": &offset, "length": &length} {
		if text := query.Get(key); text != "" {
			if *value, err = strconv.ParseInt(text, 10, 64); err != nil || *value < 0 {
				return 0, 0, fmt.Errorf("%s is not a number", key)
			}
		}
	}
	if offset > size {
		return 0, 0, fmt.Errorf("offset %d is out of the range of the file", offset)
	}
	return offset, min(length, size-offset), nil
}

func status(info fs.FileInfo, suffix string) map[string]any {
	kind, length := "FILE", info.Size()
	if info.IsDir() {
		kind, length = "DIRECTORY", 0
	}
	return map[string]any{"pathSuffix": suffix, "type": kind, "length": length, "owner": "demo", "group": "hdfs", "permission": "640",
		"accessTime": info.ModTime().UnixMilli(), "modificationTime": info.ModTime().UnixMilli(), "blockSize": 134217728, "replication": 1}
}

func refuse(w http.ResponseWriter, name string, err error) {
	if errors.Is(err, fs.ErrNotExist) {
		remote(w, http.StatusNotFound, "FileNotFoundException", "File does not exist: "+name)
		return
	}
	remote(w, http.StatusForbidden, "IOException", "the operation on "+name+" failed")
}

// remote answers an error as Hadoop does.
func remote(w http.ResponseWriter, code int, exception, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"RemoteException": map[string]string{"exception": exception,
		"javaClassName": "java.io." + exception, "message": message}})
}

func answer(w http.ResponseWriter, value any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(value)
}
