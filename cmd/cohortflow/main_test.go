package main_test

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"cohortflow/internal/platform/platformtest"
)

// binary is the command, built once.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "cohortflow-test")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "cohortflow")
	out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", &exec.Error{Name: string(out), Err: err}
	}
	return path, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

func command(t *testing.T, environ []string, args ...string) *exec.Cmd {
	t.Helper()
	path, err := binary()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	cmd.Env = append([]string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}, environ...)
	cmd.Dir = t.TempDir()
	return cmd
}

// run runs the command to its end, and answers what it said and its exit status.
func run(t *testing.T, environ []string, args ...string) (said string, code int) {
	t.Helper()
	cmd := command(t, environ, args...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		require.ErrorAs(t, err, new(*exec.ExitError), string(out))
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// started is a command that runs until it is stopped.
type started struct {
	t    *testing.T
	cmd  *exec.Cmd
	said bytes.Buffer
	out  *bufio.Reader
	log  bytes.Buffer
}

func start(t *testing.T, environ []string, args ...string) *started {
	t.Helper()
	s := &started{t: t, cmd: command(t, environ, args...)}
	pipe, err := s.cmd.StdoutPipe()
	require.NoError(t, err)
	s.out, s.cmd.Stderr = bufio.NewReader(pipe), &s.log
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	return s
}

// until reads what it says up to a line that matches, and answers its groups. The test's time-out bounds the wait.
func (s *started) until(pattern string) []string {
	s.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		line, err := s.out.ReadString('\n')
		s.said.WriteString(line)
		if groups := re.FindStringSubmatch(line); groups != nil {
			return groups
		}
		require.NoError(s.t, err, s.said.String()+s.log.String())
	}
}

// stop sends SIGTERM and answers the exit status.
func (s *started) stop() int {
	s.t.Helper()
	require.NoError(s.t, s.cmd.Process.Signal(syscall.SIGTERM))
	rest, err := io.ReadAll(s.out)
	require.NoError(s.t, err)
	s.said.Write(rest)
	_ = s.cmd.Wait()
	return s.cmd.ProcessState.ExitCode()
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestUp(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	at := []string{"ADDR=127.0.0.1:0"}
	first := start(t, at, "up", "--data", dir)
	url := first.until(`ready at (http://\S+)`)[1]
	metrics := first.until(`metrics\s+(http://\S+)/metrics`)[1]
	for _, base := range []string{url, metrics} {
		status, body := get(t, base+"/readyz")
		require.Equal(t, 200, status, body)
		require.JSONEq(t, `{"database":"ok","schema":"ok","redis":"ok"}`, body)
	}
	said, code := run(t, at, "up", "--data", dir)
	require.Equal(t, 1, code)
	require.Equal(t, "another cohortflow runs in "+dir+"\n", said)
	require.Zero(t, first.stop(), first.log.String())
	require.Contains(t, first.said.String(), "Stopping")

	// A reset forgets the passwords with all the rest; what is not ours stays.
	secrets, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "theirs"), nil, 0o600))
	again := start(t, at, "up", "--data", dir, "--reset")
	again.until(`ready at`)
	fresh, err := os.ReadFile(filepath.Join(dir, "secrets.json"))
	require.NoError(t, err)
	require.NotEqual(t, string(secrets), string(fresh))
	require.FileExists(t, filepath.Join(dir, "theirs"))
	require.Zero(t, again.stop())
}

func TestUpOnABusyPort(t *testing.T) {
	t.Parallel()
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = busy.Close() })
	dir := t.TempDir()
	said, code := run(t, []string{"ADDR=" + busy.Addr().String()}, "up", "--data", dir)
	require.Equal(t, 1, code)
	require.Contains(t, said, "the API cannot listen on "+busy.Addr().String()+" (another address: ADDR)")
	_, code = run(t, []string{"ADDR=127.0.0.1:0"}, "up", "--data", dir, "--reset", "--demo", "--exit")
	require.Zero(t, code, "nothing was left running")
}

func TestUpWithAConfiguredDatabase(t *testing.T) {
	t.Parallel()
	for _, flag := range []string{"--demo", "--reset", "--exit", "--data=x"} {
		said, code := run(t, []string{"DATABASE_URL=sqlite://" + filepath.Join(t.TempDir(), "x.db")}, "up", flag)
		require.Equal(t, 1, code, flag)
		require.Contains(t, said, "for the embedded default only", flag)
	}
	said, code := run(t, []string{"DATABASE_URL=sqlite://" + filepath.Join(t.TempDir(), "x.db")}, "up")
	require.Equal(t, 1, code)
	require.Contains(t, said, "DJANGO_SECRET_KEY is not set")
}

// legacy is the old system's database with what it left without an end.
func legacy(t *testing.T) string {
	t.Helper()
	url := platformtest.PostgresURL(t)
	text, err := os.ReadFile("../../internal/platform/database/testdata/schema.sql")
	require.NoError(t, err)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	id := func(n string) string { return "'00000000-0000-4000-8000-0000000000" + n + "'" }
	base := `false, now(), now()`
	for _, sql := range []string{string(text),
		`INSERT INTO "user" (username, firstname, lastname, email) VALUES ('alice', 'Alice', 'MARTIN', 'alice@example.org')`,
		`INSERT INTO cohort_folder (uuid, deleted_by_cascade, created_at, modified_at, owner_id, name) VALUES (` + id("01") + `, ` + base + `, 'alice', 'f')`,
		`INSERT INTO cohort_request (uuid, deleted_by_cascade, created_at, modified_at, owner_id, name, description, favorite, parent_folder_id)
			VALUES (` + id("02") + `, ` + base + `, 'alice', 'r', '', false, ` + id("01") + `)`,
		`INSERT INTO cohort_requestquerysnapshot (uuid, deleted_by_cascade, created_at, modified_at, owner_id, serialized_query, request_id, version)
			VALUES (` + id("03") + `, ` + base + `, 'alice', '{}', ` + id("02") + `, 1)`,
		`INSERT INTO cohort_datedmeasure (uuid, deleted_by_cascade, created_at, modified_at, owner_id, request_query_snapshot_id, count_task_id,
			request_job_id, request_job_status, request_job_fail_msg, request_job_duration) VALUES
			(` + id("11") + `, ` + base + `, 'alice', ` + id("03") + `, '', 'forgotten', 'started', '', ''),
			(` + id("12") + `, ` + base + `, 'alice', ` + id("03") + `, '', '', 'new', '', '')`,
		`INSERT INTO export (uuid, deleted_by_cascade, created_at, modified_at, owner_id, output_format, nominative, shift_dates, group_tables, is_user_notified,
			retried, request_job_id, request_job_status, request_job_fail_msg, request_job_duration)
			VALUES (` + id("21") + `, ` + base + `, 'alice', 'csv', false, false, false, false, false, 'forgotten', 'pending', '', '')`,
	} {
		_, err := conn.Exec(t.Context(), sql)
		require.NoError(t, err, sql[:min(len(sql), 200)])
	}
	return url
}

func TestAdopt(t *testing.T) {
	t.Parallel()
	url := legacy(t)
	database := []string{"DATABASE_URL=" + url}

	said, code := run(t, database, "adopt", "--settle")
	require.Equal(t, 1, code)
	require.Contains(t, said, `run "cohortflow migrate"`)
	said, code = run(t, database, "adopt")
	require.Zero(t, code, said)
	require.Contains(t, said, "has not been adopted yet")
	said, code = run(t, database, "migrate", "--dry-run")
	require.Zero(t, code, said)
	require.Contains(t, said, "Would be done: adopt its tables as they are.")
	said, code = run(t, database, "migrate")
	require.Zero(t, code, said)
	said, code = run(t, database, "adopt")
	require.Zero(t, code, said)
	require.Regexp(t, `cohort_datedmeasure +new +1 +1\ncohort_datedmeasure +started +1 +0\nexport +pending +1 +0`, said)
	require.Contains(t, said, "Nothing was changed.")

	// Nobody answers: left alone.
	dead := append([]string{"QUERY_EXECUTOR_URL=http://127.0.0.1:1", "EXPORT_API_URL=http://127.0.0.1:1"}, database...)
	said, code = run(t, dead, "adopt", "--settle")
	require.Equal(t, 1, code, said)
	require.Regexp(t, `export +1 +no answer, left alone`, said)
	require.Contains(t, said, "nobody answered about 2 jobs")

	sim := start(t, nil, "simulate", "--data", t.TempDir(), "--backend", "http://127.0.0.1:1")
	alive := append([]string{"QUERY_EXECUTOR_URL=" + sim.until(`^QUERY_EXECUTOR_URL=(\S+)`)[1], "EXPORT_API_URL=" + sim.until(`^EXPORT_API_URL=(\S+)`)[1]}, database...)
	said, code = run(t, alive, "adopt", "--settle")
	require.Zero(t, code, said)
	require.Regexp(t, `cohort_datedmeasure +1 +known to nobody, failed without telling anyone`, said)
	require.Regexp(t, `export +1 +known to nobody`, said)
	said, code = run(t, alive, "adopt", "--settle")
	require.Zero(t, code, said)
	require.Contains(t, said, "nothing to settle")
	said, code = run(t, database, "migrate", "--dry-run")
	require.Zero(t, code, said)
	require.NotContains(t, said, "Left by the old system")
	said, code = run(t, database, "jobs", "list")
	require.Zero(t, code, said)
	require.Contains(t, said, "3 of 3")
	require.Zero(t, sim.stop(), sim.log.String())
}

func TestUpgradeQueries(t *testing.T) {
	t.Parallel()
	url := legacy(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `UPDATE cohort_requestquerysnapshot SET serialized_query =
		'{"version":"v1.6.0","_type":"request","request":{"_type":"basicResource","resourceType":"MedicationRequest","filterFhir":"medication=<a>"}}'`)
	require.NoError(t, err)
	database := []string{"DATABASE_URL=" + url}
	said, code := run(t, database, "upgrade-queries")
	require.Equal(t, 1, code)
	require.Contains(t, said, `run "cohortflow migrate"`)
	said, code = run(t, database, "migrate")
	require.Zero(t, code, said)

	file := filepath.Join(t.TempDir(), "changes")
	said, code = run(t, database, "upgrade-queries", "--changes", file)
	require.Zero(t, code, said)
	require.Regexp(t, `queries +v1.6.0 +0 +1 +1 +0 +0\nNothing was written: add --apply.\n`, said)
	info, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode())
	changes, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(changes), `\"filterFhir\": \"code=<a>\"`)

	said, code = run(t, database, "upgrade-queries", "--apply", "--changes", file)
	require.Equal(t, 1, code, said)
	require.Contains(t, said, "file exists")
	said, code = run(t, database, "upgrade-queries", "--apply")
	require.Zero(t, code, said)
	require.Regexp(t, `queries +v1.6.0 +0 +1 +1 +0 +0\n$`, said)
	said, code = run(t, database, "upgrade-queries", "--apply")
	require.Zero(t, code, said)
	require.Regexp(t, `queries +v1.6.1 +1 +0 +0 +0 +0\n$`, said)
}

func TestOperatorsMistakes(t *testing.T) {
	t.Parallel()
	ours := []string{"DATABASE_URL=sqlite://" + filepath.Join(t.TempDir(), "x.db")}
	said, code := run(t, ours, "migrate")
	require.Zero(t, code, said)
	const unknown = "00000000-0000-4000-8000-000000000000"
	for _, tt := range []struct {
		environ []string
		args    string
		want    string
	}{
		{nil, "migrate", "no database is configured"},
		{[]string{"DATABASE_URL=sqlite://" + filepath.Join(t.TempDir(), "y.db")}, "jobs list", `run "cohortflow migrate"`},
		{ours, "jobs show x", `"x" is no id`},
		{ours, "jobs show " + unknown, "there is no job " + unknown},
		{ours, "jobs retry " + unknown, "there is no job " + unknown},
		{ours, "jobs cancel " + unknown, "there is no job " + unknown},
		{ours, "jobs revive " + unknown, "there is no dead task " + unknown},
		{ours, "task run nonsense", `no task is named "nonsense"`},
		{ours, "adopt --give-up", "it needs --settle"},
		{ours, "upgrade-queries --to v1.4.0", `"v1.4.0" is none of v1.4.5, v1.5.0, v1.5.1, v1.6.0, v1.6.1`},
		{ours, "upgrade-queries --changes /nowhere/x", "write the changes"},
		{ours, "simulate --listen-fhir 1.2.3.4:1", "1.2.3.4:1"},
	} {
		said, code := run(t, tt.environ, strings.Fields(tt.args)...)
		require.Equal(t, 1, code, tt.args)
		require.Contains(t, said, tt.want, tt.args)
	}
}

func TestMigrateRefusesAForeignDatabase(t *testing.T) {
	t.Parallel()
	url := platformtest.PostgresURL(t)
	conn, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	_, err = conn.Exec(t.Context(), `CREATE TABLE "user" (id integer)`)
	require.NoError(t, err)
	for _, args := range [][]string{{"migrate"}, {"migrate", "--dry-run"}, {"adopt"}} {
		said, code := run(t, []string{"DATABASE_URL=" + url}, args...)
		require.Equal(t, 1, code, args)
		require.Contains(t, said, "neither empty nor one of ours", args)
		require.Contains(t, said, "table export is missing", args)
	}
}

// TestSync walks the operator's way to a tree: from a file that is refused, from one that is not, and from the FHIR server.
func TestSync(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	environ := []string{"DATABASE_URL=sqlite://" + filepath.Join(dir, "x.db"), "PERIMETER_TYPES=CHU,Hospital,Unit", "ORBIS_ACCESSES_SYNC_ENABLED=false"}
	said, code := run(t, environ, "migrate")
	require.Zero(t, code, said)
	load := func(rows string) (string, int) {
		t.Helper()
		file := filepath.Join(dir, "perimeters.csv")
		require.NoError(t, os.WriteFile(file, []byte("id;name;local_id;parent_id;level\n"+rows), 0o600))
		return run(t, environ, "load-initial-data", "--perimeters", file)
	}
	for rows, want := range map[string]string{
		"1;Top;1;;1\n2;A;2;3;2\n3;B;3;2;2\n": "line 3: perimeter 2 is its own ancestor; line 4: perimeter 3 is its own ancestor",
		"1;Top;1;;1\n2;A;2;77;2\n":           "line 3: parent_id 77 is not in the file",
		"1;Top;1;;1\n2;A;2;;1\n":             "ensure you have a single root perimeter: lines 2, 3 have no parent_id",
		"1;Top;1;;1\n1;A;2;1;2\n":            "line 3: id 1 is that of line 2",
		"":                                   "the file has no rows",
	} {
		said, code = load(rows)
		require.Equal(t, 1, code, said)
		require.Contains(t, said, want)
	}
	said, code = load("1;Top;1;;1\n2;Old unit;2;1;2\n")
	require.Zero(t, code, said)
	require.Contains(t, said, "Successfully loaded 2 perimeters")

	said, code = run(t, environ, "sync", "fhir", "--dry-run")
	require.Equal(t, 1, code)
	require.Contains(t, said, "set FHIR_URL")
	sim := start(t, nil, "simulate", "--data", t.TempDir(), "--backend", "http://127.0.0.1:1", "--perimeters", "12", "--patients", "20")
	environ = append(environ, "FHIR_URL="+sim.until(`^FHIR_URL=(\S+)`)[1], "QUERY_EXECUTOR_URL="+sim.until(`^QUERY_EXECUTOR_URL=(\S+)`)[1])
	said, code = run(t, environ, "sync", "fhir")
	require.Equal(t, 1, code)
	require.Regexp(t, `(?m)^The organizations of the FHIR server could not be read\.$`, said)
	environ = append(environ, "FHIR_ACCESS_TOKEN=secret")
	for range 2 { // the first has changed nothing
		said, code = run(t, environ, "sync", "fhir", "--dry-run")
		require.Zero(t, code, said)
		require.Contains(t, said, "- 2 Old unit\n")
		require.Regexp(t, `\d+ added, \d+ changed, \d+ removed, \d+ accesses ended`, said)
	}
	done, code := run(t, environ, "sync", "fhir")
	require.Zero(t, code, done)
	require.Contains(t, done, said, "it does what it said, and complains that there is no Redis")
	said, code = run(t, environ, "sync", "fhir", "--dry-run")
	require.Zero(t, code, said)
	require.Equal(t, "0 added, 0 changed, 0 removed, 0 accesses ended\n", said)
	said, code = run(t, environ, "sync", "orbis", "--dry-run")
	require.Equal(t, 1, code)
	require.Contains(t, said, "ORBIS_ACCESSES_SYNC_ENABLED=true")
	require.Zero(t, sim.stop(), sim.log.String())
}

func TestFlagsOfTheOldImage(t *testing.T) {
	t.Parallel()
	environ := []string{"DATABASE_URL=" + platformtest.PostgresURL(t), "REDIS_URL=" + platformtest.RedisURL(t), "ADDR=127.0.0.1:0", "METRICS_ADDR=127.0.0.1:0",
		"DJANGO_SECRET_KEY=a", "JWT_SIGNING_KEY=b", "PERIMETER_TYPES=root", "QUERY_EXECUTOR_URL=http://127.0.0.1:1", "FHIR_URL=http://127.0.0.1:1"}
	said, code := run(t, environ, "-b", "-l")
	require.Equal(t, 1, code, said)
	require.Contains(t, said, `run "cohortflow migrate"`, "without -d nothing is migrated")
	said, code = run(t, environ, "-d", "-i", "-n")
	require.Zero(t, code, said)
	require.Contains(t, said, "the initial data were not loaded", "there is no /perimeters.csv here, and the old image ignored that")

	s := &started{t: t, cmd: command(t, environ, "-bdil")}
	pipe, err := s.cmd.StderrPipe()
	require.NoError(t, err)
	s.out, s.cmd.Stdout = bufio.NewReader(pipe), &s.log
	require.NoError(t, s.cmd.Start())
	t.Cleanup(func() { _ = s.cmd.Process.Kill(); _ = s.cmd.Wait() })
	status, body := get(t, "http://"+s.until(`"msg":"listening".*"address":"([^"]+)"`)[1]+"/readyz")
	require.Equal(t, 200, status, body)
	require.Zero(t, s.stop(), s.said.String())
}
