package storage

import (
	"errors"
	"strings"
)

var (
	// ErrNotExist says that there is no such file.
	ErrNotExist = errors.New("file does not exist")
	// ErrUnavailable says that no server could be reached, or that those reached refused.
	ErrUnavailable = errors.New("no storage server is available")
	// ErrPath refuses a path that is not absolute, or climbs.
	ErrPath = errors.New("not an absolute path")
)

// remoteError is what a server answered. Its message is for those who asked for the file (Reason), not for logs: it names
// the file, and files are named after people.
type remoteError struct {
	exception string // says in short what is wrong: a class name without package such as StandbyException, a status
	message   string // the server's own words, in one line
	is        error  // ErrNotExist, or nil
}

func (e *remoteError) Error() string { return "the storage server refused (" + e.exception + ")" }

func (e *remoteError) Unwrap() error { return e.is }

// notExist is the answer of providers that have no words of their own for it; these are HDFS's.
func notExist(path string) error {
	return &remoteError{exception: "FileNotFoundException", message: "File does not exist: " + path, is: ErrNotExist}
}

func notFile(path string) error {
	return &remoteError{exception: "not a file", message: "Path is not a file: " + path}
}

// unavailableError keeps what each server said.
type unavailableError struct{ failures []error }

func (e *unavailableError) Error() string {
	if len(e.failures) == 0 {
		return ErrUnavailable.Error() + ": none is configured (STORAGE_PROVIDERS)"
	}
	return ErrUnavailable.Error() + ": " + strings.ReplaceAll(errors.Join(e.failures...).Error(), "\n", "; ")
}

func (e *unavailableError) Unwrap() []error { return append([]error{ErrUnavailable}, e.failures...) }

// Reason is what may be shown of an error after "Storage provider error: " (contract: exports.md 11): the words of the
// server that answered where one did, else a sentence of ours. It holds no URL.
func Reason(err error) string {
	var remote *remoteError
	switch {
	case errors.As(err, &remote):
		return remote.message
	case errors.Is(err, ErrNotExist):
		return "File does not exist"
	case errors.Is(err, ErrPath):
		return "The path is not valid"
	case errors.Is(err, ErrUnavailable):
		return "No storage server is available"
	}
	return "The storage server did not answer as expected"
}

// firstLine drops the stack traces that HDFS appends to its messages.
func firstLine(message string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(message), "\n")
	const longest = 500
	return strings.ToValidUTF8(line[:min(len(line), longest)], "")
}
