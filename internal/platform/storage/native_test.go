package storage

import (
	"io/fs"
	"os"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

// namenodeError is an error as the library makes them of Java exceptions.
type namenodeError struct{ exception, message string }

func (e namenodeError) Error() string     { return e.exception + " " + e.message }
func (e namenodeError) Method() string    { return "getFileInfo" }
func (e namenodeError) Desc() string      { return "ERROR_APPLICATION" }
func (e namenodeError) Exception() string { return e.exception }
func (e namenodeError) Message() string   { return e.message }

func TestNativeErrors(t *testing.T) {
	t.Parallel()
	at := func(err error) error { return &fs.PathError{Op: "open", Path: "/alice.zip", Err: err} }
	for name, c := range map[string]struct {
		err           error
		text, reason  string
		existsNowhere bool
	}{
		"missing": {
			at(os.ErrNotExist), "the storage server refused (FileNotFoundException)", "File does not exist: /alice.zip", true,
		},
		"forbidden": {
			at(os.ErrPermission), "the storage server refused (AccessControlException)", "Permission denied: /alice.zip", false,
		},
		"safe mode": {
			at(namenodeError{"org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Name node is in safe mode.\n\tat org.apache.hadoop"}),
			"the storage server refused (SafeModeException)", "Name node is in safe mode.", false,
		},
		"not empty": {at(syscall.ENOTEMPTY), "directory not empty", "The storage server did not answer as expected", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := nativeError("/alice.zip", c.err)
			require.EqualError(t, err, c.text)
			require.Equal(t, c.reason, Reason(err))
			if c.existsNowhere {
				require.ErrorIs(t, err, ErrNotExist)
			} else {
				require.NotErrorIs(t, err, ErrNotExist)
			}
		})
	}
}
