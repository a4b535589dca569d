package storage

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"strings"
)

// directory is a file:// provider: a directory of this machine, or a mounted one. os.Root keeps paths and symbolic links
// inside of it.
type directory struct{ root string }

func newDirectory(u *url.URL) (provider, error) {
	if u.Host != "" && u.Host != "localhost" || !strings.HasPrefix(u.Path, "/") || u.Path == "/" {
		return nil, errors.New("file:// needs the absolute path of a directory, as in file:///srv/exports")
	}
	return &directory{root: path.Clean(u.Path)}, nil
}

func (d *directory) name() string { return "file:" + d.root }

// enter opens the directory for one operation. One that is missing is a failure of the provider (a volume that is not
// mounted), not a missing file; it is therefore never made here.
func (d *directory) enter() (*os.Root, error) {
	root, err := os.OpenRoot(d.root)
	if err != nil {
		return nil, fmt.Errorf("open the directory: %w", bare(err))
	}
	return root, nil
}

// inside is a path as os.Root wants it.
func inside(name string) string {
	if name == "/" {
		return "."
	}
	return strings.TrimPrefix(name, "/")
}

func (d *directory) stat(_ context.Context, name string) (Info, error) {
	root, err := d.enter()
	if err != nil {
		return Info{}, err
	}
	defer root.Close()
	info, err := root.Stat(inside(name))
	if err != nil {
		return Info{}, localError(name, err)
	}
	return Info{Size: info.Size(), Dir: info.IsDir()}, nil
}

func (d *directory) open(ctx context.Context, name string) (io.ReadCloser, int64, error) {
	root, err := d.enter()
	if err != nil {
		return nil, 0, err
	}
	defer root.Close()
	file, err := root.Open(inside(name))
	if err != nil {
		return nil, 0, localError(name, err)
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = notFile(name)
	}
	if err != nil {
		_ = file.Close()
		return nil, 0, err
	}
	return exactly(ctx, file, info.Size()), info.Size(), nil
}

func (d *directory) create(ctx context.Context, name string) (Writer, error) {
	root, err := d.enter()
	if err != nil {
		return nil, err
	}
	target := inside(name)
	temporary := temporaryName(target)
	if err := root.MkdirAll(path.Dir(target), dirPerm); err != nil {
		_ = root.Close()
		return nil, localError(name, err)
	}
	file, err := root.OpenFile(temporary, os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		_ = root.Close()
		return nil, localError(name, err)
	}
	return &localWriter{ctx: ctx, root: root, file: file, temporary: temporary, target: target}, nil
}

func (d *directory) remove(_ context.Context, name string) error {
	root, err := d.enter()
	if err != nil {
		return err
	}
	defer root.Close()
	if err := root.Remove(inside(name)); err != nil {
		return localError(name, err)
	}
	return nil
}

// localWriter is a file being written to a directory.
type localWriter struct {
	ctx               context.Context
	root              *os.Root
	file              *os.File
	temporary, target string
	ended             bool
}

func (w *localWriter) Write(p []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	return w.file.Write(p)
}

func (w *localWriter) Commit() error {
	if w.ended {
		return errEnded
	}
	err := w.ctx.Err()
	if err == nil {
		err = w.file.Sync()
	}
	err = errors.Join(err, w.file.Close())
	if err == nil {
		err = w.root.Rename(w.temporary, w.target)
	}
	w.ended = true
	if err != nil {
		_ = w.root.Remove(w.temporary)
	}
	_ = w.root.Close()
	if err != nil {
		return fmt.Errorf("commit file: %w", bare(err))
	}
	return nil
}

func (w *localWriter) Abort() error {
	if w.ended {
		return nil
	}
	w.ended = true
	_ = w.file.Close()
	err := w.root.Remove(w.temporary)
	_ = w.root.Close()
	if err != nil {
		return fmt.Errorf("abort file: %w", bare(err))
	}
	return nil
}

var errEnded = errors.New("the file was committed or aborted before")

// temporaryName is beside the file, so that renaming never crosses volumes; the dot hides it from listings and from Hive.
func temporaryName(target string) string {
	return path.Join(path.Dir(target), "."+path.Base(target)+"."+rand.Text()[:12]+".part")
}

// localError turns the error of a path into one in the words that the other providers use.
func localError(name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return notExist(name)
	}
	return &remoteError{exception: bare(err).Error(), message: bare(err).Error()}
}

// bare drops the operation and path around an error of the operating system.
func bare(err error) error {
	var at *fs.PathError
	if errors.As(err, &at) {
		return at.Err
	}
	var link *os.LinkError
	if errors.As(err, &link) {
		return link.Err
	}
	return err
}
