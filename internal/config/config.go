// Package config reads the environment into typed, checked structs, and reports every mistake at once. Only app and the
// commands read it; everything else is handed its values. Names and defaults are those of the system being replaced
// (contract: system.md, section 20); ours are marked in .env.example.
package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caarlos0/env/v11"
)

// Secret is a value that no log, error or listing shows.
type Secret string

// String hides the value; use Reveal where it is needed.
func (s Secret) String() string {
	if s == "" {
		return "[unset]"
	}
	return "[set]"
}

// GoString hides the value from %#v.
func (s Secret) GoString() string { return s.String() }

// LogValue hides the value from slog.
func (s Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// MarshalText hides the value from JSON and the like.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal is the value itself.
func (s Secret) Reveal() string { return string(s) }

// Bool is true for true, on, ok, y, yes and 1 in any case, as the system being replaced reads its switches.
type Bool bool

// UnmarshalText implements encoding.TextUnmarshaler.
func (b *Bool) UnmarshalText(text []byte) error {
	switch strings.ToLower(strings.TrimSpace(string(text))) {
	case "true", "on", "ok", "y", "yes", "1":
		*b = true
	default:
		*b = false
	}
	return nil
}

// Config is everything that an operator can set.
type Config struct {
	System     System
	Database   Database
	Auth       Auth
	Cohort     Cohort
	Perimeters Perimeters
	Exports    Exports
	Mail       Mail
	Engine     Engine
	Admin      Admin
	// Warnings are what works, and is not what the operator may think; for the log of a start.
	Warnings []string
}

// System is the server itself (system.md 20.1).
type System struct {
	Addr            string   `env:"ADDR" envDefault:"127.0.0.1:8000"`         // ours: where the API listens
	MetricsAddr     string   `env:"METRICS_ADDR" envDefault:"127.0.0.1:9090"` // ours: where metrics listen
	SecretKey       Secret   `env:"DJANGO_SECRET_KEY"`
	SecretFallbacks []Secret `env:"SECRET_KEY_FALLBACKS"`
	Debug           Bool     `env:"DEBUG"`
	BackendHost     string   `env:"BACKEND_HOST" envDefault:"localhost:8000"`
	FrontendURL     string   `env:"FRONTEND_URL" envDefault:"http://localhost:3000"`
	FrontendURLs    []string `env:"FRONTEND_URLS" envDefault:"http://localhost:3000"`
	Admins          string   `env:"ADMINS"`
	NotifyAdmins    Bool     `env:"NOTIFY_ADMINS"`
	EnableCache     Bool     `env:"ENABLE_CACHE"`
	ScheduledTasks  string   `env:"SCHEDULED_TASKS"`
	IncludedApps    []string `env:"INCLUDED_APPS" envDefault:"accesses,content_management,cohort_job_server,cohort,exports,accesses_fhir_perimeters"`
	LogLevel        string   `env:"LOG_LEVEL" envDefault:"info"` // ours: debug, info, warn, error
}

// Database says where rows and the queue are (system.md 20.2); DATABASE_URL and REDIS_URL are ours and win.
type Database struct {
	URL         Secret `env:"DATABASE_URL"`
	Name        string `env:"DB_NAME"`
	User        string `env:"DB_USER"`
	Password    Secret `env:"DB_PASSWORD"`
	Host        string `env:"DB_HOST"`
	Port        string `env:"DB_PORT" envDefault:"5432"`
	SSLMode     string `env:"DB_SSLMODE" envDefault:"prefer"` // ours
	MaxConns    int    `env:"DB_MAX_CONNECTIONS" envDefault:"20"`
	RedisURL    Secret `env:"REDIS_URL"`
	CeleryURL   Secret `env:"CELERY_BROKER_URL"`
	Concurrency int    `env:"WORKER_CONCURRENCY" envDefault:"32"` // ours
}

// Auth is who may sign in, and how (system.md 20.3).
type Auth struct {
	JWTKey               Secret        `env:"JWT_SIGNING_KEY"`
	JWTAlgorithms        []string      `env:"JWT_ALGORITHMS" envDefault:"RS256,HS256"`
	EnableOIDC           Bool          `env:"ENABLE_OIDC_AUTH"`
	OIDCAudience         []string      `env:"OIDC_AUDIENCE"`
	OIDCExtraServers     []string      `env:"OIDC_EXTRA_SERVER_URLS"`
	AuthenticationHooks  []string      `env:"USER_AUTHENTICATION_HOOKS"`
	IdentityHooks        []string      `env:"USER_IDENTITY_HOOKS"`
	IdentityURL          string        `env:"IDENTITY_SERVER_URL"`
	IdentityToken        Secret        `env:"IDENTITY_SERVER_AUTH_TOKEN"`
	RolloutToken         Secret        `env:"ROLLOUT_TOKEN"`
	RolloutUsername      string        `env:"ROLLOUT_USERNAME" envDefault:"ROLLOUT_PIPELINE"`
	UsernameRegex        string        `env:"USERNAME_REGEX" envDefault:".*"`
	EmailRegex           string        `env:"EMAIL_REGEX"`
	PasswordHashing      string        `env:"PASSWORD_HASHING" envDefault:"argon2id"` // ours: argon2id, legacy
	LoginMaxFailures     int           `env:"LOGIN_MAX_FAILURES" envDefault:"5"`      // ours
	LoginLockMinutes     int           `env:"LOGIN_LOCK_MINUTES" envDefault:"15"`     // ours
	OIDCServers          []OIDCServer  `env:"-"`
	SocketGreetingWithin time.Duration `env:"WEBSOCKET_GREETING_TIMEOUT" envDefault:"60s"` // ours
}

// OIDCServer is one of the numbered identity providers (system.md 3.5).
type OIDCServer struct {
	Issuer       string
	ClientID     string
	ClientSecret Secret
	RedirectURI  string
}

// Cohort is counting and creating (system.md 20.4).
type Cohort struct {
	FHIRURL               string   `env:"FHIR_URL"`
	FHIRAccessToken       Secret   `env:"FHIR_ACCESS_TOKEN"`
	FHIRTokenURL          string   `env:"FHIR_TOKEN_URL"`     // ours
	FHIRClientID          string   `env:"FHIR_CLIENT_ID"`     // ours
	FHIRClientSecret      Secret   `env:"FHIR_CLIENT_SECRET"` // ours
	QueryExecutorURL      string   `env:"QUERY_EXECUTOR_URL"`
	QueryExecutorToken    Secret   `env:"QUERY_EXECUTOR_TOKEN"`
	QueryExecutorUser     string   `env:"QUERY_EXECUTOR_USERNAME" envDefault:"SPARK_JOB_SERVER"`
	QueryExecutorPassword Secret   `env:"QUERY_EXECUTOR_PASSWORD" envDefault:"1234"`
	UseSolr               Bool     `env:"USE_SOLR"`
	SolrETLToken          Secret   `env:"SOLR_ETL_TOKEN"`
	SolrETLUser           string   `env:"SOLR_ETL_USERNAME" envDefault:"SOLR_ETL"`
	TestFHIRQueries       Bool     `env:"TEST_FHIR_QUERIES"`
	LastCountValidity     int      `env:"LAST_COUNT_VALIDITY" envDefault:"24"`
	SizeLimit             int64    `env:"COHORT_SIZE_LIMIT"`
	ReportingTypes        []string `env:"REPORTING_PERIMETER_TYPES"`
}

// Perimeters is the tree and what is held over it (system.md 20.5).
type Perimeters struct {
	Types               []string `env:"PERIMETER_TYPES"`
	RootID              int64    `env:"ROOT_PERIMETER_ID" envDefault:"0"`
	ManagersLink        string   `env:"ACCESS_MANAGERS_LIST_LINK"`
	FirstAlertDays      int      `env:"ACCESS_EXPIRY_FIRST_ALERT_IN_DAYS" envDefault:"30"`
	SecondAlertDays     int      `env:"ACCESS_EXPIRY_SECOND_ALERT_IN_DAYS" envDefault:"2"`
	EnableAlerts        Bool     `env:"ENABLE_ACCESS_EXPIRY_ALERTS"`
	DefaultValidityDays int      `env:"DEFAULT_ACCESS_VALIDITY_IN_DAYS" envDefault:"365"`
	OrbisEnabled        Bool     `env:"ORBIS_ACCESSES_SYNC_ENABLED" envDefault:"true"`
	SyncAccesses        Bool     `env:"SYNC_USER_ACCESSES"`
	AdoptedRefresh      string   `env:"ADOPTED_REFRESH_SCHEDULES"`
	SourceName          string   `env:"PERIMETERS_SOURCE_DB_NAME"`
	SourceUser          string   `env:"PERIMETERS_SOURCE_DB_USER"`
	SourcePassword      Secret   `env:"PERIMETERS_SOURCE_DB_PASSWORD"`
	SourceHost          string   `env:"PERIMETERS_SOURCE_DB_HOST"`
	SourcePort          string   `env:"PERIMETERS_SOURCE_DB_PORT" envDefault:"5432"`
	SourceSchemas       string   `env:"PERIMETERS_SOURCE_DB_SCHEMA" envDefault:"public"`
}

// Exports is exporting, storing and cleaning (system.md 20.6).
type Exports struct {
	StorageProviders   []string `env:"STORAGE_PROVIDERS"`
	APIURL             string   `env:"EXPORT_API_URL"`
	APIToken           Secret   `env:"EXPORT_API_AUTH_TOKEN"`
	CSVPath            string   `env:"EXPORT_CSV_PATH" envDefault:"/exports/csv"`
	XLSXPath           string   `env:"EXPORT_XLSX_PATH" envDefault:"/exports/xlsx"`
	DisableTranslation Bool     `env:"DISABLE_DATA_TRANSLATION"`
	HadoopURL          string   `env:"HADOOP_API_URL"`
	HadoopToken        Secret   `env:"HADOOP_API_AUTH_TOKEN"`
	HiveDBPath         string   `env:"HIVE_DB_PATH"`
	HiveUser           string   `env:"HIVE_USER"`
	DaysToKeep         int      `env:"DAYS_TO_KEEP_EXPORTED_FILES" envDefault:"7"`
	KerberosUser       string   `env:"KERBEROS_USER"`
}

// Mail is sending mails (system.md 20.7).
type Mail struct {
	UseTLS         Bool   `env:"EMAIL_USE_TLS" envDefault:"true"`
	Host           string `env:"EMAIL_HOST"`
	Port           string `env:"EMAIL_PORT"`
	User           string `env:"EMAIL_HOST_USER"`
	Password       Secret `env:"EMAIL_HOST_PASSWORD"`
	From           string `env:"DEFAULT_FROM_EMAIL"`
	SupportContact string `env:"EMAIL_SUPPORT_CONTACT"`
	TemplatesDir   string `env:"EMAIL_TEMPLATES_DIR"` // ours: a directory whose templates replace the built-in ones
}

// Engine is how long jobs may wait (decision 29). All of it is ours.
type Engine struct {
	DeadlineLaunch      time.Duration `env:"DEADLINE_LAUNCH" envDefault:"10m"`
	DeadlineCount       time.Duration `env:"DEADLINE_COUNT" envDefault:"2h"`
	DeadlineCohort      time.Duration `env:"DEADLINE_COHORT" envDefault:"24h"`
	DeadlineLargeCohort time.Duration `env:"DEADLINE_LARGE_COHORT" envDefault:"30h"`
	DeadlineFeasibility time.Duration `env:"DEADLINE_FEASIBILITY" envDefault:"6h"`
	DeadlineExport      time.Duration `env:"DEADLINE_EXPORT" envDefault:"24h"`
	EnquireAfter        time.Duration `env:"ENQUIRE_AFTER" envDefault:"2m"`
	Lease               time.Duration `env:"LEASE" envDefault:"10s"`
	ShutdownTimeout     time.Duration `env:"SHUTDOWN_TIMEOUT" envDefault:"20s"`
	OutboundTimeout     time.Duration `env:"OUTBOUND_TIMEOUT" envDefault:"60s"` // ours: of one call to an outside system
}

// Admin is the first administrator, made by load-initial-data (system.md 20.9).
type Admin struct {
	Username  string `env:"ADMIN_USERNAME" envDefault:"admin"`
	Firstname string `env:"ADMIN_FIRSTNAME" envDefault:"Admin"`
	Lastname  string `env:"ADMIN_LASTNAME" envDefault:"ADMIN"`
	Email     string `env:"ADMIN_EMAIL" envDefault:"admin@backend.fr"`
	Password  Secret `env:"ADMIN_PASSWORD" envDefault:"admin"`
}

// apps are what INCLUDED_APPS may name (system.md 18).
var apps = []string{"accesses", "accesses_fhir_perimeters", "accesses_perimeters", "cohort", "cohort_job_server", "content_management", "exporters", "exports"}

// EmailRegexDefault is what EMAIL_REGEX means when unset.
const EmailRegexDefault = `^[\w.+-]+@[\w-]+\.[\w]+$`

// Load reads a list of NAME=value, as os.Environ gives it. For each X, X_FILE may name a file that holds the value; a
// value that is $Y takes that of Y. All mistakes are reported, joined.
func Load(environ []string) (Config, error) {
	values, err := resolve(environ)
	var errs []error
	if err != nil {
		errs = append(errs, err)
	}
	var cfg Config
	if err := env.ParseWithOptions(&cfg, env.Options{Environment: values}); err != nil {
		errs = append(errs, err)
	}
	trimLists(reflect.ValueOf(&cfg).Elem())
	if cfg.Cohort.SizeLimit == 0 {
		cfg.Cohort.SizeLimit, err = alias(values, "COHORT_LIMIT", 20000)
		errs = append(errs, err)
		if values["COHORT_LIMIT"] != "" {
			cfg.warn("COHORT_LIMIT is read as COHORT_SIZE_LIMIT, which is its name")
		}
	}
	if schemas := values["PERIMETERS_SOURCE_DB_SCHEMAS"]; schemas != "" && values["PERIMETERS_SOURCE_DB_SCHEMA"] == "" {
		cfg.Perimeters.SourceSchemas = schemas
		cfg.warn("PERIMETERS_SOURCE_DB_SCHEMAS is read as PERIMETERS_SOURCE_DB_SCHEMA, which is its name")
	}
	for _, name := range []string{"accesses", "content_management", "cohort", "exports"} {
		if !slices.Contains(cfg.System.IncludedApps, name) {
			cfg.warn("INCLUDED_APPS does not name " + name + ", which is on all the same")
		}
	}
	cfg.Auth.EmailRegex = orDefault(cfg.Auth.EmailRegex, EmailRegexDefault)
	cfg.Auth.JWTKey = Secret(strings.ReplaceAll(cfg.Auth.JWTKey.Reveal(), `\n`, "\n"))
	cfg.Auth.OIDCServers, err = oidcServers(values)
	errs = append(errs, err, cfg.check())
	return cfg, errors.Join(errs...)
}

func (c *Config) warn(text string) { c.Warnings = append(c.Warnings, text) }

func orDefault(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}

// check finds what is well-formed but cannot work.
func (c Config) check() error {
	var errs []error
	for name, text := range map[string]string{
		"FHIR_URL": c.Cohort.FHIRURL, "QUERY_EXECUTOR_URL": c.Cohort.QueryExecutorURL, "EXPORT_API_URL": c.Exports.APIURL,
		"HADOOP_API_URL": c.Exports.HadoopURL, "FRONTEND_URL": c.System.FrontendURL, "IDENTITY_SERVER_URL": c.Auth.IdentityURL,
		"FHIR_TOKEN_URL": c.Cohort.FHIRTokenURL,
	} {
		if text == "" {
			continue
		}
		if u, err := url.Parse(text); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			errs = append(errs, fmt.Errorf("%s is not an http(s) URL", name))
		}
	}
	for name, text := range map[string]string{"USERNAME_REGEX": c.Auth.UsernameRegex, "EMAIL_REGEX": c.Auth.EmailRegex} {
		if _, err := regexp.Compile(text); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", name, err))
		}
	}
	switch c.Auth.PasswordHashing {
	case "argon2id", "legacy":
	default:
		errs = append(errs, errors.New("PASSWORD_HASHING must be argon2id or legacy"))
	}
	for name, n := range map[string]int64{"COHORT_SIZE_LIMIT": c.Cohort.SizeLimit, "LOGIN_MAX_FAILURES": int64(c.Auth.LoginMaxFailures), "LOGIN_LOCK_MINUTES": int64(c.Auth.LoginLockMinutes),
		"DB_MAX_CONNECTIONS": int64(c.Database.MaxConns), "WORKER_CONCURRENCY": int64(c.Database.Concurrency), "DEFAULT_ACCESS_VALIDITY_IN_DAYS": int64(c.Perimeters.DefaultValidityDays)} {
		if n < 1 {
			errs = append(errs, fmt.Errorf("%s must be positive", name))
		}
	}
	for _, name := range c.System.IncludedApps {
		if !slices.Contains(apps, name) {
			errs = append(errs, fmt.Errorf("INCLUDED_APPS: there is no %q; there are %s", name, strings.Join(apps, ", ")))
		}
	}
	if c.Exports.DaysToKeep < 0 {
		errs = append(errs, errors.New("DAYS_TO_KEEP_EXPORTED_FILES must not be negative"))
	}
	return errors.Join(errs...)
}

// Serving finds what the running processes need and a command may do without: keys, the database, the queue.
func (c Config) Serving() error {
	var errs []error
	missing := func(name string, unset bool) {
		if unset {
			errs = append(errs, fmt.Errorf("%s is not set", name))
		}
	}
	missing("DJANGO_SECRET_KEY", c.System.SecretKey == "")
	missing("JWT_SIGNING_KEY", c.Auth.JWTKey == "")
	missing("QUERY_EXECUTOR_URL", c.Cohort.QueryExecutorURL == "")
	missing("FHIR_URL, or EXPORT_API_URL for exports,", c.Cohort.FHIRURL == "" && c.Exports.APIURL == "")
	missing("PERIMETER_TYPES", len(c.Perimeters.Types) == 0)
	if p := c.Perimeters; slices.Contains(c.System.IncludedApps, "accesses_perimeters") {
		missing("PERIMETERS_SOURCE_DB_NAME", p.SourceName == "")
		missing("PERIMETERS_SOURCE_DB_USER", p.SourceUser == "")
		missing("PERIMETERS_SOURCE_DB_PASSWORD", p.SourcePassword == "")
		missing("PERIMETERS_SOURCE_DB_HOST", p.SourceHost == "")
	}
	missing("DATABASE_URL, or DB_HOST, DB_NAME and DB_USER,", c.DatabaseURL() == "")
	return errors.Join(errs...)
}

// DatabaseURL is DATABASE_URL, or the URL that DB_* make; "" when neither is set.
func (c Config) DatabaseURL() string {
	d := c.Database
	if d.URL != "" {
		return d.URL.Reveal()
	}
	if d.Host == "" || d.Name == "" {
		return ""
	}
	return postgresURL(d.Host, d.Port, d.Name, d.User, d.Password, d.SSLMode)
}

// SourceURL is the database that perimeters are taken from (PERIMETERS_SOURCE_DB_*).
func (c Config) SourceURL() string {
	p := c.Perimeters
	return postgresURL(p.SourceHost, p.SourcePort, p.SourceName, p.SourceUser, p.SourcePassword, c.Database.SSLMode)
}

func postgresURL(host, port, name, user string, password Secret, sslMode string) string {
	u := url.URL{Scheme: "postgres", Host: host + ":" + port, Path: "/" + name}
	if user != "" {
		u.User = url.UserPassword(user, password.Reveal())
	}
	u.RawQuery = url.Values{"sslmode": {sslMode}}.Encode()
	return u.String()
}

// QueueURL is REDIS_URL, CELERY_BROKER_URL or the default of the system being replaced.
func (c Config) QueueURL() string {
	switch {
	case c.Database.RedisURL != "":
		return c.Database.RedisURL.Reveal()
	case c.Database.CeleryURL != "":
		return c.Database.CeleryURL.Reveal()
	}
	return "redis://localhost:6379"
}

// Environ is the environment of the process, completed by the .env file of the working directory where there is one: the
// real environment wins.
func Environ() ([]string, error) { return withFile(os.Environ(), ".env") }
