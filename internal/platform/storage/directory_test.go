package storage

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDirectory(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := setup(t, nil, "file://"+root)
	s.write(t, file, "one")
	s.write(t, file, "the second")
	require.Equal(t, "the second", s.read(t, file))
	info, err := s.Stat(t.Context(), file)
	require.NoError(t, err)
	require.Equal(t, Info{Size: 10}, info)
	onDisk, err := os.Stat(filepath.Join(root, file))
	require.NoError(t, err)
	require.EqualValues(t, 0o600, onDisk.Mode().Perm())
	onDisk, err = os.Stat(filepath.Join(root, "data"))
	require.NoError(t, err)
	require.EqualValues(t, 0o700, onDisk.Mode().Perm())
	info, err = s.Stat(t.Context(), "/data")
	require.NoError(t, err)
	require.True(t, info.Dir)

	_, _, err = s.Open(t.Context(), "/data")
	require.Equal(t, "Path is not a file: /data", Reason(err))
	require.ErrorIs(t, s.Remove(t.Context(), "/data"), ErrUnavailable, "a full directory is not removed")
	require.NoError(t, s.Remove(t.Context(), file))
	require.NoError(t, s.Remove(t.Context(), file), "what is not there is removed")
	require.NoError(t, s.Remove(t.Context(), "/data/exports"), "an empty directory is")
	_, err = s.Stat(t.Context(), file)
	require.ErrorIs(t, err, ErrNotExist)
	require.Equal(t, "File does not exist: "+file, Reason(err))
}

func TestDirectoryAbort(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := setup(t, nil, "file://"+root)
	s.write(t, "/x.zip", "old")
	w, err := s.Create(t.Context(), "/x.zip")
	require.NoError(t, err)
	_, err = io.WriteString(w, "half")
	require.NoError(t, err)
	require.NoError(t, w.Abort())
	require.NoError(t, w.Abort())
	require.ErrorIs(t, w.Commit(), errEnded)

	ctx, cancel := context.WithCancel(t.Context())
	w, err = s.Create(ctx, "/x.zip")
	require.NoError(t, err)
	cancel()
	_, err = io.WriteString(w, "half")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, w.Commit(), context.Canceled)
	entries, err := os.ReadDir(root)
	require.NoError(t, err)
	require.Len(t, entries, 1)
	require.Equal(t, "old", s.read(t, "/x.zip"))

	require.NoError(t, os.Mkdir(filepath.Join(root, "taken"), 0o700))
	w, err = s.Create(t.Context(), "/taken")
	require.NoError(t, err)
	require.Error(t, w.Commit(), "a directory is not replaced")
	entries, err = os.ReadDir(root)
	require.NoError(t, err)
	require.Len(t, entries, 2)
}

func TestDirectoryKeepsInside(t *testing.T) {
	t.Parallel()
	root, outside := t.TempDir(), t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	require.NoError(t, os.Symlink(outside, filepath.Join(root, "link")))
	require.NoError(t, os.Symlink(filepath.Join(outside, "secret"), filepath.Join(root, "file")))
	s := setup(t, nil, "file://"+root)
	for _, name := range []string{"/link/secret", "/file"} {
		_, _, err := s.Open(t.Context(), name)
		require.ErrorIs(t, err, ErrUnavailable, name)
	}
	_, err := s.Create(t.Context(), "/link/new")
	require.Error(t, err)
	require.Error(t, s.Remove(t.Context(), "/link/secret"))
	entries, err := os.ReadDir(outside)
	require.NoError(t, err)
	require.Len(t, entries, 1)
}

func TestPathsAreAbsoluteAndDoNotClimb(t *testing.T) {
	t.Parallel()
	s := setup(t, nil, "file://"+t.TempDir())
	for _, name := range []string{"", "x", "../x", "/a/../../x", "/..", "/a/..", "/a\x00b", "/a\r\nb"} {
		_, err := s.Stat(t.Context(), name)
		require.ErrorIs(t, err, ErrPath, name)
		_, _, err = s.Open(t.Context(), name)
		require.ErrorIs(t, err, ErrPath, name)
		_, err = s.Create(t.Context(), name)
		require.ErrorIs(t, err, ErrPath, name)
		require.ErrorIs(t, s.Remove(t.Context(), name), ErrPath, name)
	}
	for _, name := range []string{"/", "//", "/."} {
		_, err := s.Create(t.Context(), name)
		require.ErrorIs(t, err, ErrPath)
		require.ErrorIs(t, s.Remove(t.Context(), name), ErrPath)
	}
	s.write(t, "//a//b/./c..zip", "x")
	require.Equal(t, "x", s.read(t, "/a/b/c..zip"))
}

func TestDirectoryThatIsNotMounted(t *testing.T) {
	t.Parallel()
	missing, there := filepath.Join(t.TempDir(), "missing"), t.TempDir()
	s := setup(t, nil, "file://"+missing, "file://"+there)
	s.write(t, "/x.zip", "x")
	require.Equal(t, "x", s.read(t, "/x.zip"))
	require.NoDirExists(t, missing)
	_, err := setup(t, nil, "file://"+missing).Stat(t.Context(), "/x.zip")
	require.ErrorIs(t, err, ErrUnavailable)
	require.NotErrorIs(t, err, ErrNotExist)
}

func TestDirectoryFileThatShrinks(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	s := setup(t, nil, "file://"+root)
	s.write(t, "/x.zip", "0123456789")
	body, _, err := s.Open(t.Context(), "/x.zip")
	require.NoError(t, err)
	require.NoError(t, os.Truncate(filepath.Join(root, "x.zip"), 4))
	_, err = io.ReadAll(body)
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	require.NoError(t, body.Close())
}

func TestConfigurationMistakes(t *testing.T) {
	t.Parallel()
	_, err := New(Config{Providers: []string{
		"http://ok:9870", "ftp://me:hush@h/", "nn1:9870", "file://relative/x", "file:///", "hdfs://nn/some/path", "http://h/?op=x", "ht tp://x", "hdfs://",
	}}, slog.New(slog.DiscardHandler))
	require.Error(t, err)
	for _, entry := range []string{"2", "3", "4", "5", "6", "7", "8", "9"} {
		require.ErrorContains(t, err, "STORAGE_PROVIDERS: entry "+entry+":")
	}
	require.NotContains(t, err.Error(), "hush")
	s, err := New(Config{Providers: []string{"hdfs://me@nn1", "https://h:9871/gateway/"}}, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, "hdfs:nn1:8020", s.providers[0].name())
	require.Equal(t, "me", s.providers[0].(*nativeHDFS).user)
	require.Equal(t, "https://h:9871/gateway/webhdfs/v1/a%20b%3F?op=OPEN", s.providers[1].(*webHDFS).address("/a b?", params{{"op", "OPEN"}}))
}
