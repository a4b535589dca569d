// Package simulate runs doubles of the outside systems that the product depends on, faithful enough that the whole
// workflow works on a laptop: FHIR, QueryExecutor, the Solr ETL, the export and Hadoop APIs, WebHDFS, an SMTP inbox and
// an OIDC issuer, all over one invented hospital (design.md 8; contract: peers.md 15). The command "cohortflow up" starts
// it when nothing else is configured; tests start it with ports of their own. It speaks to the product over the network
// only, and imports nothing of it but the platform.
package simulate

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/platform/lifecycle"
	"cohortflow/internal/simulate/etlsim"
	"cohortflow/internal/simulate/exportsim"
	"cohortflow/internal/simulate/faultplan"
	"cohortflow/internal/simulate/fhirsim"
	"cohortflow/internal/simulate/hadoopsim"
	"cohortflow/internal/simulate/hospital"
	"cohortflow/internal/simulate/oidcsim"
	"cohortflow/internal/simulate/qesim"
	"cohortflow/internal/simulate/smtpsim"
	"cohortflow/internal/simulate/webhdfssim"
)

// Config says what to simulate. A zero field of the second part takes its default.
type Config struct {
	Log   *slog.Logger
	Clock clock.Clock
	Dir   string // where jobs, cohorts and exported files are kept over a restart; the directory belongs to the suite

	Seed       int64 // of the hospital
	Patients   int   // 2,000
	Perimeters int   // 320

	BackendURL string // base of the callbacks; may be set later (SetBackend)
	QEToken    string // bearer of QueryExecutor's callbacks
	ETLToken   string // bearer of the ETL's callbacks
	FHIRAuth   fhirsim.Auth
	FHIRToken  string // for FHIRAuth "exact"

	Latency             time.Duration // how long a job of QueryExecutor runs (0)
	IndexDelay          time.Duration // how long the ETL takes for a large cohort (0)
	CohortCreationLimit int           // above it a cohort is large (20,000)
	JobRetries          int           // QueryExecutor's JOBS_AUTO_RETRY (0)
	JobThreads          int           // QueryExecutor's JOBS_THREADS (20)
	Practitioners       []fhirsim.Practitioner

	ExportToken   string           // auth-token of the export API; empty: anything will do
	HadoopToken   string           // auth-token of the Hadoop API
	TaskDuration  time.Duration    // how long their tasks take (0)
	OIDCUsers     []oidcsim.User   // who can log in at the OIDC issuer
	OIDCClients   []oidcsim.Client // and which applications send them there
	OIDCAutoLogin string           // this user is logged in without a question

	Listen Listen
}

// Listen holds the address of each double; empty: any free port of 127.0.0.1.
type Listen struct{ FHIR, QueryExecutor, Export, Hadoop, WebHDFS, SMTP, OIDC, Control string }

// Addresses is where the doubles are, once started: base URLs without a slash at the end; SMTP as host:port.
type Addresses struct {
	FHIR          string `json:"fhir"` // with the path /fhir
	QueryExecutor string `json:"queryExecutor"`
	Export        string `json:"export"`
	Hadoop        string `json:"hadoop"`
	WebHDFS       string `json:"webhdfs"`
	SMTP          string `json:"smtp"`
	OIDC          string `json:"oidc"` // the issuer: the realm "cohort"
	Control       string `json:"control"`
}

// Suite is all doubles together.
type Suite struct {
	cfg      Config
	hospital *hospital.Hospital
	lists    *hospital.Lists
	plan     *faultplan.Plan
	backend  backend
	recorder *recorder
	qe       *qesim.Server
	etl      *etlsim.Server
	smtp     *smtpsim.Server
	hdfs     *webhdfssim.Server
	export   *exportsim.Server
	hadoop   *hadoopsim.Server
	oidc     *oidcsim.Server
	doors    map[string]*door

	mu      sync.Mutex
	running *lifecycle.Stack
}

// New makes the hospital and reads what a former run left in the directory.
func New(cfg Config) (*Suite, error) {
	if cfg.Log == nil || cfg.Clock == nil || cfg.Dir == "" {
		return nil, errors.New("simulate: a log, a clock and a directory are needed")
	}
	h, err := hospital.New(hospital.Config{Seed: cfg.Seed, Patients: cfg.Patients, Perimeters: cfg.Perimeters})
	if err != nil {
		return nil, err
	}
	if err := sameHospital(cfg.Dir, h.Config()); err != nil {
		return nil, err
	}
	lists, err := hospital.OpenLists(filepath.Join(cfg.Dir, "lists"), h)
	if err != nil {
		return nil, err
	}
	s := &Suite{cfg: cfg, hospital: h, lists: lists, plan: faultplan.New(cfg.Seed), recorder: &recorder{clock: cfg.Clock}, doors: map[string]*door{}}
	s.backend.known = make(chan struct{})
	if cfg.BackendURL != "" {
		s.SetBackend(cfg.BackendURL)
	}
	s.etl = etlsim.New(etlsim.Config{Log: cfg.Log, Lists: lists, Plan: s.plan, Token: cfg.ETLToken, Backend: s.backend.url, Delay: cfg.IndexDelay})
	s.qe, err = qesim.New(qesim.Config{Log: cfg.Log, Clock: cfg.Clock, Hospital: h, Lists: lists, Plan: s.plan,
		Dir: filepath.Join(cfg.Dir, "queryexecutor"), Token: cfg.QEToken, Backend: s.backend.url, Large: s.etl.Index,
		Threads: cfg.JobThreads, Latency: cfg.Latency, Limit: cfg.CohortCreationLimit, Retries: cfg.JobRetries})
	if err != nil {
		return nil, err
	}
	s.smtp = smtpsim.NewServer(cfg.Log, cfg.Clock, s.plan, listenOn(cfg.Listen.SMTP))
	if err := s.platform(); err != nil {
		return nil, err
	}
	s.open()
	return s, nil
}

// platform makes the doubles around exports, and the issuer.
func (s *Suite) platform() (err error) {
	cfg := s.cfg
	if s.hdfs, err = webhdfssim.New(filepath.Join(cfg.Dir, "hdfs")); err != nil {
		return err
	}
	s.export = exportsim.New(exportsim.Config{Clock: cfg.Clock, Hospital: s.hospital, Lists: s.lists, Token: cfg.ExportToken,
		Write: s.hdfs.WriteFile, Duration: cfg.TaskDuration})
	s.hadoop = hadoopsim.New(cfg.Clock, cfg.HadoopToken, cfg.TaskDuration)
	s.oidc, err = oidcsim.New(oidcsim.Config{Clock: cfg.Clock, Users: cfg.OIDCUsers, Clients: cfg.OIDCClients, AutoLogin: cfg.OIDCAutoLogin})
	return err
}

func listenOn(address string) string { return cmp.Or(address, "127.0.0.1:0") }

// open makes the doors, closed as yet.
func (s *Suite) open() {
	fhir := fhirsim.New(fhirsim.Config{Hospital: s.hospital, Lists: s.lists, Auth: s.cfg.FHIRAuth, Token: s.cfg.FHIRToken,
		Practitioners: s.cfg.Practitioners})
	add := func(name, address string, d *door) {
		d.name, d.address, d.log = name, listenOn(address), s.cfg.Log
		if name != "control" {
			d.handler = s.recorder.wrap(name, s.plan.Wrap(name, d.handler))
		}
		s.doors[name] = d
	}
	add("fhir", s.cfg.Listen.FHIR, &door{handler: fhir})
	add("qe", s.cfg.Listen.QueryExecutor, &door{handler: s.qe})
	add("export", s.cfg.Listen.Export, &door{handler: s.export})
	add("hadoop", s.cfg.Listen.Hadoop, &door{handler: s.hadoop})
	add("webhdfs", s.cfg.Listen.WebHDFS, &door{handler: s.hdfs})
	add("oidc", s.cfg.Listen.OIDC, &door{handler: s.oidc})
	add("control", s.cfg.Listen.Control, &door{handler: s.control()})
}

// sameHospital refuses a directory whose state is of another hospital: its cohorts would hold other patients.
func sameHospital(dir string, want hospital.Config) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	path := filepath.Join(dir, "hospital.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if data, err = json.Marshal(want); err == nil {
			err = hospital.WriteFile(path, data)
		}
		if err != nil {
			return fmt.Errorf("simulate: %w", err)
		}
		return nil
	}
	var have hospital.Config
	if err == nil {
		err = json.Unmarshal(data, &have)
	}
	if err != nil {
		return fmt.Errorf("simulate: %s: %w", path, err)
	}
	if have != want {
		return fmt.Errorf("simulate: %s holds the state of a hospital with seed %d, %d patients and %d perimeters, not %d, %d and %d: "+
			"keep these numbers, or use another directory", dir, have.Seed, have.Patients, have.Perimeters, want.Seed, want.Patients, want.Perimeters)
	}
	return nil
}

// Start opens the doors and goes on with the jobs that a former run left. It returns at once.
func (s *Suite) Start(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running != nil {
		return nil
	}
	// What the doubles run outlives the context of Start: Stop ends it.
	ctx = context.WithoutCancel(ctx)
	stack := &lifecycle.Stack{}
	err := stack.Start(ctx, "etl", s.etl)
	if err == nil {
		err = stack.Start(ctx, "qe", s.qe)
	}
	if err == nil {
		err = stack.Start(ctx, "smtp", s.smtp)
	}
	for name, d := range s.doors {
		if err == nil {
			err = stack.Start(ctx, name, d)
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("simulate: %w", err), stack.Stop(ctx))
	}
	s.running = stack
	return nil
}

// Stop closes everything. A suite that was stopped can be started again; a later process goes on from the directory.
func (s *Suite) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running == nil {
		return nil
	}
	err := s.running.Stop(ctx)
	s.running = nil
	return err
}

// Addresses tells where the doubles are, once started.
func (s *Suite) Addresses() Addresses {
	url := func(name, path string) string {
		if addr := s.doors[name].addr(); addr != "" {
			return "http://" + addr + path
		}
		return ""
	}
	return Addresses{FHIR: url("fhir", "/fhir"), QueryExecutor: url("qe", ""), Export: url("export", ""), Hadoop: url("hadoop", ""),
		WebHDFS: url("webhdfs", ""), SMTP: s.smtp.Addr(), OIDC: url("oidc", "/realms/cohort"), Control: url("control", "")}
}

// SetBackend says where callbacks go. Those that are owed wait for it.
func (s *Suite) SetBackend(url string) { s.backend.set(strings.TrimSuffix(url, "/")) }

// Hospital is the hospital that the doubles are about.
func (s *Suite) Hospital() *hospital.Hospital { return s.hospital }

// Lists are the cohorts that QueryExecutor's double has made.
func (s *Suite) Lists() *hospital.Lists { return s.lists }

// Inbox is where the mails are that were sent to the SMTP double.
func (s *Suite) Inbox() *smtpsim.Inbox { return s.smtp.Inbox() }

// HDFS is the simulated file system.
func (s *Suite) HDFS() *webhdfssim.Server { return s.hdfs }

// Export is the double of the export API.
func (s *Suite) Export() *exportsim.Server { return s.export }

// Hadoop is the double of the Hadoop API.
func (s *Suite) Hadoop() *hadoopsim.Server { return s.hadoop }

// OIDC is the double of the identity provider.
func (s *Suite) OIDC() *oidcsim.Server { return s.oidc }

// Faults says how the doubles misbehave; it may be changed at any moment.
func (s *Suite) Faults() *faultplan.Plan { return s.plan }

// Requests are the last requests to one double (fhir, qe, export, hadoop, webhdfs, oidc), oldest first; empty: to all.
func (s *Suite) Requests(peer string) []Request { return s.recorder.of(peer) }

// backend is the address that callbacks go to, once it is known.
type backend struct {
	mu    sync.Mutex
	base  string
	known chan struct{}
}

func (b *backend) set(url string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.base == "" && url != "" {
		close(b.known)
	}
	if url != "" {
		b.base = url
	}
}

func (b *backend) url(ctx context.Context) (string, error) {
	select {
	case <-b.known:
	case <-ctx.Done():
		return "", ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.base, nil
}
