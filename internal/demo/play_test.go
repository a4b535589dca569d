package demo

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var quick = patience{poll: time.Millisecond, quiet: 20 * time.Millisecond}

func TestPlay(t *testing.T) {
	t.Parallel()
	s, cfg, out := setup(t)
	require.NoError(t, play(t.Context(), cfg, quick), out)

	text := out.String()
	for _, part := range []string{
		"1/6 sign in and write a query", "Ada MARTIN (ada)", "Hôpital Alisier, nominative",
		"3 patients, after ", "told by the websocket", "3 of the generated patients fit: equal",
		"1980 patients", ": long_pending, then finished after", "list 881980",
		"/exports/csv/ada_20260630.zip", "person                3 rows", "visit_occurrence      3 rows",
		"to Ada MARTIN (ada): Votre cohorte est prête", "by solr-etl", "changed nothing",
		"404  somebody else's folder", "400  a snapshot of no query", "403  a report with a wrong key",
		"All 6 steps went as they should",
	} {
		require.Contains(t, text, part)
	}
	require.NotContains(t, text, tokenPrefix)
	require.NotContains(t, text, "@")
	require.NotContains(t, text, "another day", "mails of former plays are not this one's")
	require.NotContains(t, text, "\x1b")

	out.Reset()
	require.NoError(t, play(t.Context(), cfg, quick), "it can be played again")
	require.Equal(t, 12, len(s.jobs))
}

// TestDeviations bends one thing at a time: the play must end there, and say where.
func TestDeviations(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { answer(w, code, map[string]any{"detail": "bent"}) }
	}
	only := func(format string, content func(t *testing.T) []byte) func(t *testing.T, s *system, cfg *Config) {
		return func(t *testing.T, s *system, _ *Config) {
			whole := s.archive
			s.archive = func(f string) []byte {
				if f == format {
					return content(t)
				}
				return whole(f)
			}
		}
	}
	edited := func(edit func(sheets []sheet) []sheet, format string) func(t *testing.T, s *system, cfg *Config) {
		return only(format, func(t *testing.T) []byte { return archive(t, format, edit(tables())) })
	}
	bend := func(route string, h http.HandlerFunc) func(t *testing.T, s *system, cfg *Config) {
		return func(_ *testing.T, s *system, _ *Config) { s.bent[route] = h }
	}
	const signIn, count, create, export, tell, refused = "step 1 (sign in", "step 2 (count)", "step 3 (create", "step 4 (export)", "step 5 (mails", "step 6 (what is refused)"
	for name, test := range map[string]struct {
		bend func(t *testing.T, s *system, cfg *Config)
		step string
		says string
	}{
		"a wrong password":   {func(_ *testing.T, _ *system, c *Config) { c.Researcher.Password = "x" }, signIn, "answered 401, not 200"},
		"no token":           {bend("POST /auth/login/", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{}) }), signIn, "no token"},
		"not JSON":           {bend("POST /auth/login/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }), signIn, "not what it should be"},
		"no websocket":       {bend("GET /ws/", status(500)), signIn, "open the websocket: it answered 500"},
		"no rights":          {bend("GET /accesses/perimeters/patient-data/rights/", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"results": []any{}}) }), signIn, "rights on 0 perimeters"},
		"a snapshot refused": {bend("POST /cohort/request-query-snapshots/", status(400)), signIn, "answered 400, not 201"},
		"another truth":      {func(_ *testing.T, s *system, _ *Config) { s.count = func(string) int { return 4 } }, count, "the count is 4, but 3 of"},
		"nobody found": {func(_ *testing.T, s *system, c *Config) {
			s.count = func(string) int { return 0 }
			c.Evaluate = truth(0)
		}, count, "finds nobody"},
		"too many found": {func(_ *testing.T, s *system, c *Config) {
			s.count = func(string) int { return 1000 }
			c.Evaluate = truth(1000)
		}, count, "fewer than the size limit"},
		"no truth": {func(_ *testing.T, _ *system, c *Config) {
			c.Evaluate = func(context.Context, string) (int, error) { return 0, errors.New("oracle") }
		}, count, "find out the true count: oracle"},
		"the count fails":      {func(_ *testing.T, s *system, _ *Config) { s.finish = "failed" }, count, "the count is failed: the reason"},
		"another limit":        {func(_ *testing.T, _ *system, c *Config) { c.SizeLimit = 999 }, count, "size limit of cohorts is 1000"},
		"the count never ends": {func(_ *testing.T, s *system, c *Config) { s.finish = "never"; c.Timeout = 2 * time.Second }, count, `wait for the end of the count (last seen as "new")`},
		"another result told": {func(_ *testing.T, s *system, _ *Config) {
			s.told = func(m map[string]any) []map[string]any {
				m["extra_info"] = map[string]any{"measure": 2}
				return []map[string]any{m}
			}
		}, count, "the websocket told another result"},
		"told too early": {func(_ *testing.T, s *system, _ *Config) {
			s.bent["GET /cohort/dated-measures/{}/"] = func(w http.ResponseWriter, _ *http.Request) {
				answer(w, 200, map[string]any{"request_job_status": "started"})
			}
		}, count, "told that the count is finished, but the API"},
		"another size": {func(_ *testing.T, s *system, _ *Config) { s.size = func(n int) int { return n - 1 } }, create, "does not have the 3 patients"},
		"no cohort":    {bend("POST /cohort/cohorts/", status(500)), create, "answered 500, not 201"},
		"small institution": {func(_ *testing.T, s *system, c *Config) {
			s.count = func(string) int { return 3 }
			c.Evaluate = truth(3)
		}, create, "no cohort is large"},
		"no exports":        {bend("POST /exports/", status(404)), export, "this server offers no exports"},
		"an export refused": {bend("POST /exports/", status(400)), export, "answered 400, not 201"},
		"an export fails": {bend("GET /exports/{}/", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"request_job_status": "failed", "request_job_fail_msg": "no disk"})
		}), export, "csv: the export is failed: no disk"},
		"no download":     {bend("GET /exports/{}/download/", status(400)), export, "answered 400, not 200"},
		"a nameless file": {bend("GET /exports/{}/download/", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("PK")) }), export, "gives the file no name"},
		"another file":    {func(_ *testing.T, _ *system, c *Config) { c.Stored = func(string) (int64, error) { return 7, nil } }, export, "7 bytes are stored"},
		"nothing stored": {func(_ *testing.T, _ *system, c *Config) {
			c.Stored = func(string) (int64, error) { return 0, errors.New("not there") }
		}, export, "in the storage: not there"},
		"no archive":         {only("csv", func(*testing.T) []byte { return []byte("person_id\n1\n") }), export, "csv: open the archive"},
		"no workbook":        {only("xlsx", func(t *testing.T) []byte { return archive(t, "csv", tables()) }), export, "xlsx: the archive holds 3 files"},
		"a patient too many": {edited(func(all []sheet) []sheet { all[0].rows = append(all[0].rows, []string{"4", "X"}); return all }, "csv"), export, "has 4 rows about 4 patients"},
		"a patient twice":    {edited(func(all []sheet) []sheet { all[0].rows[3][0] = "1"; return all }, "csv"), export, "3 rows about 2 patients"},
		"a stranger's visit": {edited(func(all []sheet) []sheet { all[1].rows[1][1] = "9"; return all }, "csv"), export, "not in the cohort"},
		"a table missing":    {edited(func(all []sheet) []sheet { return all[:2] }, "xlsx"), export, "xlsx: the file holds 2 tables"},
		"an empty table":     {edited(func(all []sheet) []sheet { all[1].rows = all[1].rows[:1]; return all }, "csv"), export, "visit_occurrence is empty"},
		"other rows":         {edited(func(all []sheet) []sheet { all[1].rows = all[1].rows[:3]; return all }, "xlsx"), export, "3 rows as CSV and 2 as XLSX"},
		"about nobody":       {edited(func(all []sheet) []sheet { all[1].rows[1][1] = ""; return all }, "csv"), export, "it is about nobody"},
		"a mail missing": {func(_ *testing.T, s *system, c *Config) {
			mails := c.Mails
			c.Mails = func(to string) []Mail { return without(mails(to), "terminé") }
			c.Timeout = 2 * time.Second
		}, tell, "wait for the mails about the end of the exports"},
		"a mail twice": {func(_ *testing.T, s *system, c *Config) {
			mails := c.Mails
			c.Mails = func(to string) []Mail { return append(mails(to), mails(to)[1:]...) }
		}, tell, "2 mails came about the large cohort, where 1 were due"},
		"a silent websocket": {func(_ *testing.T, s *system, c *Config) { s.told = nil; c.Timeout = 2 * time.Second }, tell, "the websocket did not tell the end of the count"},
		"told twice": {func(_ *testing.T, s *system, _ *Config) {
			s.told = func(m map[string]any) []map[string]any { return []map[string]any{m, m} }
		}, tell, "2 times"},
		"ended by another": {func(_ *testing.T, s *system, _ *Config) { s.endedBy = "query-executor" }, tell, "not by the indexer"},
		"no jobs":          {bend("GET /jobs/", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, map[string]any{"results": []any{}}) }), tell, "no job about the count"},
		"others' jobs": {bend("GET /jobs/", func(w http.ResponseWriter, _ *http.Request) {
			answer(w, 200, map[string]any{"results": []any{map[string]any{"id": "7", "owner": "root"}}})
		}), tell, "job 7, which is somebody else's"},
		"no timeline":           {bend("GET /jobs/{}/events/", func(w http.ResponseWriter, _ *http.Request) { answer(w, 200, []any{}) }), tell, "0 endings"},
		"an open folder":        {bend("GET /cohort/folders/{}/", status(200)), refused, "somebody else's folder: GET"},
		"a forbidden folder":    {bend("GET /cohort/folders/{}/", status(403)), refused, "answered 403, not 404"},
		"a forged report taken": {bend("PATCH /cohort/dated-measures/{}/", status(200)), refused, "a report with a wrong key: PATCH"},
		"a forged report counts": {func(_ *testing.T, s *system, _ *Config) {
			s.bent["PATCH /cohort/dated-measures/{}/"] = func(w http.ResponseWriter, r *http.Request) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.rows[r.PathValue("id")]["measure"] = 1
				answer(w, 403, map[string]any{})
			}
		}, refused, "a report with a wrong key changed the count"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, cfg, out := setup(t)
			test.bend(t, s, &cfg)
			err := play(t.Context(), cfg, quick)
			require.ErrorContains(t, err, test.step)
			require.ErrorContains(t, err, test.says)
			require.Contains(t, out.String(), "FAILED")
			require.NotContains(t, err.Error()+out.String(), tokenPrefix)
		})
	}
}

func truth(n int) func(context.Context, string) (int, error) {
	return func(context.Context, string) (int, error) { return n, nil }
}

func without(mails []Mail, word string) []Mail {
	var kept []Mail
	for _, m := range mails {
		if !strings.Contains(m.Subject, word) {
			kept = append(kept, m)
		}
	}
	return kept
}

// TestLateMessages: a message that comes after the API was asked is late, not missing.
func TestLateMessages(t *testing.T) {
	t.Parallel()
	s, cfg, out := setup(t)
	var kept []map[string]any
	s.told = func(m map[string]any) []map[string]any {
		if kept = append(kept, m); len(kept) < 6 { // until the last of the 5 messages, which all cohorts and counts have
			if len(kept) == 5 {
				return kept
			}
			return nil
		}
		return []map[string]any{m}
	}
	require.NoError(t, play(t.Context(), cfg, quick), out)
	require.Contains(t, out.String(), "told by the API")
}

func TestPlayEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s, cfg, _ := setup(t)
	s.finish = "never"
	ctx, cancel := context.WithCancel(t.Context())
	s.bent["GET /cohort/dated-measures/{}/"] = func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		answer(w, 200, map[string]any{"request_job_status": "pending"})
	}
	require.ErrorIs(t, play(ctx, cfg, quick), context.Canceled)
}

// broken is a writer that takes only so much.
type broken struct{ left int }

func (b *broken) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("no space")
	}
	return len(p), nil
}

func TestPlayReportsAnUnwrittenTranscript(t *testing.T) {
	t.Parallel()
	_, cfg, _ := setup(t)
	cfg.Out = &broken{left: 200}
	require.ErrorContains(t, play(t.Context(), cfg, quick), "write the transcript: no space")
}

func TestPlayRefusesNonsense(t *testing.T) {
	t.Parallel()
	err := Play(t.Context(), Config{Timeout: -1})
	for _, part := range []string{"the URL of the API", "where to write to", "the login", "virtual cohort", "evaluate", "the size from which", "time limit is negative"} {
		require.ErrorContains(t, err, part)
	}
}

func TestTranscriptAligns(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	tr := &transcript{w: &out}
	tr.line("étape", "a %s", "b")
	tr.rows("rows", [][]string{{"é", "1"}, {"long", "22", ""}})
	require.Equal(t, "    étape         a b\n    rows          é     1\n                  long  22\n", out.String())
}
