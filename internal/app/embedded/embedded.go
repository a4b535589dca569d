// Package embedded runs the whole of Cohortflow in one process with nothing configured: SQLite, a Redis inside the
// process, the simulators of every outside system and a demo hospital (design: "cohortflow up"). The command up calls it.
// It never touches a configured database: demo accounts and simulators belong to the laptop.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"cohortflow/internal/access"
	"cohortflow/internal/app"
	"cohortflow/internal/config"
	"cohortflow/internal/demo"
	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/queue"
	"cohortflow/internal/platform/telemetry"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/fhirsim"
	"cohortflow/internal/simulate/hospital"
)

// Options are the flags of "up".
type Options struct {
	Dir   string // the data directory
	Reset bool   // start afresh
	Demo  bool   // play the workflow once it is up
	Exit  bool   // and end then, instead of serving
	Out   io.Writer
	// Environ is the environment, which wins over what is set up here.
	Environ []string
	// With, if not nil, may change the options of the application.
	With func(*app.Options)
}

const (
	researcher = "demo"
	// sizeLimit is COHORT_SIZE_LIMIT of the demonstration: a hospital's cohort is small, the institution's is large.
	sizeLimit = 1000
	seed      = 1
)

// Run brings everything up and serves until ctx ends (or the demonstration does, with Exit), then drains and stops.
func Run(ctx context.Context, o Options) (err error) {
	started := time.Now()
	dir, err := openDirectory(o.Dir, o.Reset)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, dir.close()) }()
	logs, err := os.OpenFile(dir.file("cohortflow.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log: %w", err)
	}
	defer func() { _ = logs.Close() }()
	log, err := telemetry.Logger(logs, "info", "up")
	if err != nil {
		return err
	}
	s, err := dir.secrets()
	if err != nil {
		return err
	}
	in := &installation{dir: dir, secrets: s, log: log, out: o.Out, environ: o.Environ, with: o.With}
	if err := in.start(ctx); err != nil {
		return errors.Join(err, in.stop())
	}
	defer func() { err = errors.Join(err, in.stop()) }()
	fmt.Fprintf(o.Out, "Started in %s on the embedded default (data in %s, log in %s).\n\n", time.Since(started).Round(time.Millisecond), dir.path, dir.file("cohortflow.log"))
	if o.Demo {
		if err := in.play(ctx); err != nil {
			if o.Exit || ctx.Err() != nil {
				return err
			}
			fmt.Fprintf(o.Out, "\nThe demonstration did not end as it should: %v\n", err)
		}
	}
	if o.Exit {
		return nil
	}
	in.greet()
	<-ctx.Done()
	fmt.Fprintln(o.Out, "\nStopping: running tasks are given time to end, the rest is kept for the next start.")
	return nil
}

// installation is a running embedded default.
type installation struct {
	dir     *directory
	secrets secrets
	log     *slog.Logger
	out     io.Writer
	environ []string
	with    func(*app.Options)
	suite   *simulate.Suite
	cfg     config.Config
	app     *app.App
}

func (in *installation) start(ctx context.Context) error {
	for _, step := range []func(context.Context) error{in.simulate, in.configure, in.build, in.fill, in.serve} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (in *installation) stop() error {
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Second)
	defer cancel()
	var errs []error
	if in.app != nil {
		errs = append(errs, in.app.Stop(ctx))
	}
	if in.suite != nil {
		errs = append(errs, in.suite.Stop(ctx))
	}
	return errors.Join(errs...)
}

func (in *installation) simulate(ctx context.Context) (err error) {
	in.suite, err = simulate.New(simulate.Config{Log: in.log, Clock: clock.System{}, Dir: in.dir.file("simulators"), Seed: seed,
		QEToken: in.secrets.QueryExecutor, ETLToken: in.secrets.ETL, FHIRAuth: fhirsim.AnyToken, CohortCreationLimit: sizeLimit,
		Latency: 50 * time.Millisecond, IndexDelay: 200 * time.Millisecond})
	if err != nil {
		return fmt.Errorf("simulators: %w", err)
	}
	return in.suite.Start(ctx)
}

// configure completes the environment by what this installation made itself.
func (in *installation) configure(context.Context) (err error) {
	files := in.dir.file("files")
	if err := os.MkdirAll(files, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	at := in.suite.Addresses()
	host, port, err := net.SplitHostPort(at.SMTP)
	if err != nil {
		return fmt.Errorf("address of the simulated mail server: %w", err)
	}
	environ := []string{
		"DATABASE_URL=sqlite://" + in.dir.file("cohortflow.db"), "METRICS_ADDR=127.0.0.1:0",
		"DJANGO_SECRET_KEY=" + in.secrets.Application, "JWT_SIGNING_KEY=" + in.secrets.Signing,
		"FHIR_URL=" + at.FHIR, "FHIR_ACCESS_TOKEN=" + in.secrets.FHIR, "USE_SOLR=true",
		"QUERY_EXECUTOR_URL=" + at.QueryExecutor, "QUERY_EXECUTOR_TOKEN=" + in.secrets.QueryExecutor, "QUERY_EXECUTOR_USERNAME=SPARK_JOB_SERVER",
		"QUERY_EXECUTOR_PASSWORD=" + in.secrets.QueryExecutor, "SOLR_ETL_TOKEN=" + in.secrets.ETL, "COHORT_SIZE_LIMIT=" + strconv.Itoa(sizeLimit),
		"PERIMETER_TYPES=" + strings.Join(hospital.PerimeterTypes(), ","), "ROOT_PERIMETER_ID=" + strconv.FormatInt(in.suite.Hospital().Perimeters()[0].ID, 10),
		"STORAGE_PROVIDERS=file://" + files,
		"EMAIL_HOST=" + host, "EMAIL_PORT=" + port, "EMAIL_USE_TLS=false", "DEFAULT_FROM_EMAIL=cohortflow@example.org", "EMAIL_SUPPORT_CONTACT=support@example.org",
		"ADMIN_PASSWORD=" + in.secrets.Admin,
	}
	in.cfg, err = config.Load(append(environ, in.environ...)) // the last of a name wins
	return err
}

func (in *installation) build(ctx context.Context) (err error) {
	opts := app.Options{Log: in.log, Clock: clock.System{}, Roles: app.Roles{API: true, Worker: true, Scheduler: true}, Embedded: queue.NewEmbedded()}
	if in.with != nil {
		in.with(&opts)
	}
	in.app, err = app.New(ctx, in.cfg, opts)
	return err
}

// fill makes the tables, the perimeters and the accounts, where they are missing.
func (in *installation) fill(ctx context.Context) error {
	if _, err := in.app.Migrate(ctx, database.MigrateOptions{}); err != nil {
		return err
	}
	var file bytes.Buffer
	if err := in.suite.Hospital().WritePerimeters(&file); err != nil {
		return err
	}
	if _, err := in.app.LoadInitialData(ctx, &file); err != nil {
		return err
	}
	role := access.DemoRoles()[1]
	return in.app.Access().EnsureHolder(ctx, access.NewUser{Username: researcher, Firstname: "Camille", Lastname: "DEMO", Email: "demo@example.org", Password: in.secrets.Researcher},
		role, in.suite.Hospital().Perimeters()[0].ID)
}

func (in *installation) serve(ctx context.Context) error {
	if err := in.app.Start(ctx); err != nil {
		return err
	}
	in.suite.SetBackend("http://" + in.app.Address())
	return nil
}

func (in *installation) play(ctx context.Context) error {
	perimeters := in.suite.Hospital().Perimeters()
	return demo.Play(ctx, demo.Config{
		BaseURL: "http://" + in.app.Address(), Out: in.out,
		Researcher: demo.Login{Username: researcher, Password: in.secrets.Researcher}, Admin: demo.Login{Username: in.cfg.Admin.Username, Password: in.secrets.Admin},
		CaresiteCohortID: strconv.FormatInt(perimeters[1].CohortID, 10), RootCohortID: strconv.FormatInt(perimeters[0].CohortID, 10),
		Evaluate: func(_ context.Context, query string) (int, error) { return in.suite.Evaluate(query) },
		Mails:    in.mails, Stored: in.stored, SizeLimit: int(in.cfg.Cohort.SizeLimit),
	})
}

func (in *installation) greet() {
	at := "http://" + in.app.Address()
	fmt.Fprintf(in.out, `
Cohortflow is ready at %s

  researcher     %s / %s
  administrator  %s / %s

  API documentation  %s/docs
  metrics            http://%s/metrics
  simulators         %s/_simulate/mails (and faults, requests, jobs)

ctrl-C stops it; the next start finds the data again.
`, at, researcher, in.secrets.Researcher, in.cfg.Admin.Username, in.secrets.Admin, at, in.app.MetricsAddress(), in.suite.Addresses().Control)
}
