// Package apptest runs whole installations in tests: a PostgreSQL database and a Redis of their own, the simulators over a
// small hospital, and api, worker and scheduler as processes of the operating system that can be killed. The processes are
// the test binary itself, run again: Main gives them the main function of the commands. Tests of faults and benchmarks of
// the whole system use it; production code never does. It knows what is promised of jobs (settled.go), and reads that from
// the database and from the simulators, not from the API alone.
package apptest

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"cohortflow/internal/access"
	"cohortflow/internal/app"
	"cohortflow/internal/config"
	"cohortflow/internal/demo"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/database/databasetest"
	"cohortflow/internal/platform/platformtest"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/fhirsim"
	"cohortflow/internal/simulate/hospital"
)

// Patience bounds every wait: long enough for a busy machine of two cores.
const Patience = platformtest.Patience

const (
	username = "researcher"
	password = "a password of tests"
	machine  = "key-of-tests"
	// LargeFrom is the size from which a cohort is left to the indexer: the whole hospital is larger, its parts are not.
	LargeFrom = 150
	patients  = 200
)

// Config says what an installation is to be like. The zero value has fast settings, a lease of 2 s and an enquiry after 2 s of
// silence, and deadlines that no job is to reach.
type Config struct {
	// Environ are further settings of the processes; they win.
	Environ []string
	// Simulators may change the simulators before they are made.
	Simulators func(*simulate.Config)
}

// Installation is one that is ready for its first process.
type Installation struct {
	Suite       *simulate.Suite
	DatabaseURL string
	Redis       *Redis
	// DB is for looking. Its connections are named "apptest" in pg_stat_activity.
	DB *database.DB

	t       testing.TB
	environ []string
	dir     string
}

// New makes the installation: nothing of the product runs yet.
func New(t testing.TB, cfg Config) *Installation {
	t.Helper()
	in := &Installation{t: t, dir: t.TempDir(), DatabaseURL: databasetest.PostgresURL(t), Redis: StartRedis(t)}
	in.simulate(cfg)
	in.configure(cfg)
	var err error
	in.DB, err = database.Open(t.Context(), database.Config{URL: in.DatabaseURL + "&application_name=apptest", MaxConns: 4})
	require.NoError(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			in.explain()
		}
		require.NoError(t, in.DB.Close())
	})
	in.fill()
	return in
}

// background outlives the context of the test, which ends before its clean-up.
func background() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), Patience)
}

func (in *Installation) simulate(cfg Config) {
	sim := simulate.Config{Log: slog.New(slog.DiscardHandler), Clock: clock.System{}, Dir: in.dir + "/simulators", Seed: 1, Patients: patients,
		QEToken: machine + "-qe", ETLToken: machine + "-etl", FHIRAuth: fhirsim.AnyToken, CohortCreationLimit: LargeFrom}
	if cfg.Simulators != nil {
		cfg.Simulators(&sim)
	}
	var err error
	in.Suite, err = simulate.New(sim)
	require.NoError(in.t, err)
	require.NoError(in.t, in.Suite.Start(in.t.Context()))
	in.t.Cleanup(func() {
		ctx, cancel := background()
		defer cancel()
		require.NoError(in.t, in.Suite.Stop(ctx))
	})
}

func (in *Installation) configure(cfg Config) {
	at := in.Suite.Addresses()
	host, port, err := net.SplitHostPort(at.SMTP)
	require.NoError(in.t, err)
	in.environ = append([]string{
		"DATABASE_URL=" + in.DatabaseURL, "REDIS_URL=" + in.Redis.URL, "ADDR=127.0.0.1:0", "METRICS_ADDR=127.0.0.1:0",
		"DJANGO_SECRET_KEY=" + machine, "JWT_SIGNING_KEY=" + strings.Repeat("k", 32),
		"FHIR_URL=" + at.FHIR, "FHIR_ACCESS_TOKEN=" + machine, "USE_SOLR=true",
		"QUERY_EXECUTOR_URL=" + at.QueryExecutor, "QUERY_EXECUTOR_TOKEN=" + machine + "-qe", "SOLR_ETL_TOKEN=" + machine + "-etl",
		"COHORT_SIZE_LIMIT=" + strconv.Itoa(LargeFrom), "PERIMETER_TYPES=" + strings.Join(hospital.PerimeterTypes(), ","),
		"ROOT_PERIMETER_ID=" + strconv.FormatInt(in.Suite.Hospital().Perimeters()[0].ID, 10), "STORAGE_PROVIDERS=file://" + in.dir,
		"EMAIL_HOST=" + host, "EMAIL_PORT=" + port, "EMAIL_USE_TLS=false", "DEFAULT_FROM_EMAIL=cohortflow@example.org",
		"ADMIN_PASSWORD=" + password,
		"LEASE=2s", "ENQUIRE_AFTER=2s", "DEADLINE_LAUNCH=5m", "DEADLINE_COUNT=5m", "DEADLINE_COHORT=5m", "DEADLINE_LARGE_COHORT=5m",
	}, cfg.Environ...)
}

// fill loads perimeters and accounts, as the command load-initial-data does.
func (in *Installation) fill() {
	ctx := in.t.Context()
	cfg, err := config.Load(in.environ)
	require.NoError(in.t, err)
	a, err := app.New(ctx, cfg, app.Options{Log: slog.New(slog.DiscardHandler)})
	require.NoError(in.t, err)
	defer func() { require.NoError(in.t, a.Stop(ctx)) }()
	var file bytes.Buffer
	require.NoError(in.t, in.Suite.Hospital().WritePerimeters(&file))
	_, err = a.LoadInitialData(ctx, &file)
	require.NoError(in.t, err)
	require.NoError(in.t, a.Access().EnsureHolder(ctx, access.NewUser{Username: username, Firstname: "Ada", Lastname: "TEST", Email: "ada@example.org",
		Password: password}, access.DemoRoles()[1], in.Suite.Hospital().Perimeters()[0].ID))
}

// SignIn is the researcher at an API, with connections of their own.
func (in *Installation) SignIn(api *Process) *demo.Researcher {
	in.t.Helper()
	return signIn(in.t, api, demo.Login{Username: username, Password: password})
}

// SignIn is the researcher of the embedded default.
func (p *Process) SignIn() *demo.Researcher {
	p.t.Helper()
	raw, err := os.ReadFile(filepath.Join(p.cmd.Dir, "data", "secrets.json"))
	require.NoError(p.t, err)
	var secrets struct {
		Password string `json:"researcher_password"`
	}
	require.NoError(p.t, json.Unmarshal(raw, &secrets))
	return signIn(p.t, p, demo.Login{Username: "demo", Password: secrets.Password})
}

func signIn(t testing.TB, at *Process, who demo.Login) *demo.Researcher {
	t.Helper()
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	t.Cleanup(transport.CloseIdleConnections)
	r, err := demo.SignIn(t.Context(), at.URL(), &http.Client{Transport: transport, Timeout: Patience}, who)
	require.NoError(t, err)
	return r
}

// Question is a query that was written down, and its true answer.
type Question struct {
	demo.Question
	Truth int
}

// Questions writes n queries about parts of the hospital, each in a request of its own so that no count supersedes another;
// large ones are about the whole hospital.
func (in *Installation) Questions(r *demo.Researcher, n int, large bool) []Question {
	in.t.Helper()
	perimeters := in.Suite.Hospital().Perimeters()
	questions := make([]Question, n)
	Each(in.t, n, func(i int) error {
		at := perimeters[0]
		if !large {
			parts := perimeters[0].Children
			at = perimeters[parts[i%len(parts)]]
		}
		query, err := demo.Everybody(strconv.FormatInt(at.CohortID, 10))
		if err != nil {
			return err
		}
		if questions[i].Truth, err = in.Suite.Evaluate(query); err != nil {
			return err
		}
		questions[i].Question, err = r.Ask(in.t.Context(), fmt.Sprintf("question %d", i), query)
		return err
	})
	return questions
}

// Counts asks for a count of each question and returns their uuids.
func (in *Installation) Counts(r *demo.Researcher, questions []Question) []string {
	in.t.Helper()
	ids := make([]string, len(questions))
	Each(in.t, len(questions), func(i int) (err error) {
		ids[i], err = r.Count(in.t.Context(), questions[i].Question)
		return err
	})
	return ids
}

// Cohorts asks for a cohort of each question and its count.
func (in *Installation) Cohorts(r *demo.Researcher, questions []Question, counts []string) []string {
	in.t.Helper()
	ids := make([]string, len(questions))
	Each(in.t, len(questions), func(i int) (err error) {
		ids[i], err = r.Create(in.t.Context(), questions[i].Question, counts[i], fmt.Sprintf("cohort %d", i))
		return err
	})
	return ids
}

// Eventually waits until a condition holds.
func (in *Installation) Eventually(condition func() bool, what string, args ...any) {
	in.t.Helper()
	require.Eventually(in.t, condition, Patience, 20*time.Millisecond, append([]any{what}, args...)...)
}

// environment is what a process gets: nothing of the environment of the test but the paths.
func environment(role string, settings []string) []string {
	return append([]string{roleVariable + "=" + role, "PATH=" + os.Getenv("PATH"), "HOME=" + cmp.Or(os.Getenv("HOME"), "/")}, settings...)
}
