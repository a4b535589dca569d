package export

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/storage"
	"cohortflow/internal/platform/web"
)

// Archive is a file on its way to its owner. Close it.
type Archive struct {
	io.ReadCloser
	Size int64
	Name string
}

const notDownloadable = "Error downloading files: "

// Download opens the files of a finished export, for its owner alone. Nothing is asked of the storage before it is known
// that there is something to give. Refusals: exports.md 11.
func (s *Service) Download(ctx context.Context, caller identity.Caller, id uuid.UUID) (Archive, error) {
	e, err := s.store.Get(ctx, id)
	if err == nil && e.OwnerID != caller.Username {
		err = fault.NotFound{Model: "Export"} // a 403 would log them out (clients.md 37)
	}
	if err != nil {
		return Archive{}, err
	}
	if e.JobStatus != statusFinished || (e.OutputFormat != formatCSV && e.OutputFormat != formatXLSX) {
		return Archive{}, fault.Text(notDownloadable + "The export is not done yet or has failed or not downloadable")
	}
	if !s.kept(e, s.cfg.Clock.Now()) {
		return Archive{}, fault.Text(notDownloadable + "The exported files are no longer available on the server.")
	}
	source, err := s.namesake(ctx, e)
	if err != nil {
		return Archive{}, err
	}
	if source == nil {
		return Archive{}, fault.Text(notDownloadable + "Export has no table with cohort result source")
	}
	file, size, err := s.cfg.Files.Open(ctx, e.path()+".zip")
	if err != nil {
		if errors.Is(err, context.Canceled) {
			return Archive{}, err
		}
		return Archive{}, fault.Refused{Status: http.StatusInternalServerError, Body: "Storage provider error: " + storage.Reason(err)}
	}
	return Archive{ReadCloser: file, Size: size, Name: "export_" + source.GroupID + ".zip"}, nil
}

// kept tells whether the files are still promised: for some days from the creation, or from the end of the last try.
func (s *Service) kept(e Export, now time.Time) bool { return s.keptUntil(e).After(now) }

func (s *Service) keptUntil(e Export) time.Time {
	from := e.CreatedAt
	if e.Retried {
		from = e.ModifiedAt
	}
	return from.AddDate(0, 0, s.cfg.DaysToKeep)
}

// namesake is the source cohort of the first table that has one, nil for none.
func (s *Service) namesake(ctx context.Context, e Export) (*cohort, error) {
	for _, t := range e.Tables {
		if t.CohortResultSourceID == nil {
			continue
		}
		found, err := s.store.Cohorts(ctx, []uuid.UUID{*t.CohortResultSourceID})
		if err != nil {
			return nil, err
		}
		if c, ok := found[*t.CohortResultSourceID]; ok {
			return &c, nil
		}
	}
	return nil, nil
}

func (r routes) download(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	file, err := r.service.Download(c.Request.Context(), identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	h := c.Writer.Header()
	h.Set("Content-Type", "application/zip")
	h.Set("Content-Length", strconv.FormatInt(file.Size, 10))
	h.Set("Content-Disposition", "attachment; filename="+file.Name)
	h.Set("Access-Control-Expose-Headers", "Content-Disposition")
	c.Status(http.StatusOK)
	if _, err := io.CopyBuffer(struct{ io.Writer }{c.Writer}, file, make([]byte, 1_000_000)); err != nil {
		if c.Request.Context().Err() == nil {
			r.service.cfg.Log.ErrorContext(c.Request.Context(), "download broke off", "export", id, "error", err)
		}
		panic(http.ErrAbortHandler) // the client must not take half a file for a whole one
	}
	return nil
}

// logsTimeout is how long the export API may take to tell about a job.
const logsTimeout = 30 * time.Second

// errNoLogs says that there is nothing to tell about a finished export.
var errNoLogs = errors.New("finished")

// Logs is what the export API says about the job of an export, for full admins. Refusals: exports.md 10.
func (s *Service) Logs(ctx context.Context, caller identity.Caller, id uuid.UUID) (Export, []byte, error) {
	if err := s.mustAdminister(ctx, caller); err != nil {
		return Export{}, nil, err
	}
	e, err := s.store.Get(ctx, id)
	switch {
	case err != nil:
		return e, nil, err
	case e.JobStatus == statusFinished:
		return e, nil, errNoLogs
	case e.JobID == "":
		return e, nil, fault.Text("The target export has no job ID")
	case s.cfg.API == nil:
		return e, nil, fault.Refused{Status: http.StatusInternalServerError, Body: "Error fetching logs: no export API is configured"}
	}
	limited, cancel := context.WithTimeout(ctx, logsTimeout)
	defer cancel()
	answer, err := s.cfg.API.Logs(limited, e.JobID)
	switch {
	case err == nil:
	case errors.Is(limited.Err(), context.DeadlineExceeded):
		return e, nil, fault.Refused{Status: http.StatusRequestTimeout, Body: "Timeout while fetching logs. Please try again later."}
	default:
		return e, nil, fault.Refused{Status: http.StatusInternalServerError, Body: "Error fetching logs: " + err.Error()}
	}
	var text bytes.Buffer
	if err := json.Indent(&text, answer, "", "    "); err != nil {
		return e, nil, fmt.Errorf("write the logs of export %s: %w", id, err)
	}
	return e, ascii(text.Bytes()), nil
}

// ascii escapes everything else, as the existing clients get it.
func ascii(text []byte) []byte {
	var b bytes.Buffer
	for _, r := range string(text) {
		switch {
		case r < 0x80:
			b.WriteByte(byte(r))
		case r > 0xFFFF:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xD800+(r>>10), 0xDC00+(r&0x3FF))
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.Bytes()
}

func (r routes) logs(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	e, text, err := r.service.Logs(c.Request.Context(), identity.CallerOf(c), id)
	if errors.Is(err, errNoLogs) {
		web.JSON(c, http.StatusOK, "No logs available. The target export has finished successfully")
		return nil
	}
	if err != nil {
		return err
	}
	c.Header("Content-Disposition", fmt.Sprintf(`attachment; filename="logs_export_%s.json"`, e.target()))
	c.Header("Content-Length", strconv.Itoa(len(text)))
	c.Data(http.StatusOK, "application/json", text)
	return nil
}
