package main

import (
	"cmp"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"cohortflow/internal/app/embedded"
)

// simulateCommand runs the doubles of the outside systems alone, for a product that runs elsewhere.
func simulateCommand() *cobra.Command {
	var cfg embedded.Simulators
	cmd := &cobra.Command{Use: "simulate", Short: "Run the simulators of the outside systems alone", Args: cobra.NoArgs,
		Long: `Runs doubles of FHIR, QueryExecutor, the Solr ETL, the export and Hadoop APIs, WebHDFS, a mail server and an OIDC
issuer over an invented hospital, and prints their addresses as the variables that point the product at them.

The tokens of the callbacks and of the APIs are those of the product's environment (QUERY_EXECUTOR_TOKEN, SOLR_ETL_TOKEN,
EXPORT_API_AUTH_TOKEN, HADOOP_API_AUTH_TOKEN) unless a flag gives another; without one, the export and the Hadoop API let
everybody in. On machines that others use, give tokens by the environment. FHIR takes any bearer token.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, t := range []struct {
				flag     *string
				variable string
			}{{&cfg.QEToken, "QUERY_EXECUTOR_TOKEN"}, {&cfg.ETLToken, "SOLR_ETL_TOKEN"},
				{&cfg.ExportToken, "EXPORT_API_AUTH_TOKEN"}, {&cfg.HadoopToken, "HADOOP_API_AUTH_TOKEN"}} {
				*t.flag = cmp.Or(*t.flag, os.Getenv(t.variable))
			}
			cfg.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelInfo}))
			return embedded.ServeSimulators(cmd.Context(), cfg, cmd.OutOrStdout())
		}}
	f := cmd.Flags()
	f.StringVar(&cfg.BackendURL, "backend", "http://127.0.0.1:8000", "base URL of the product, for callbacks")
	f.StringVar(&cfg.Dir, "data", ".cohortflow-simulators", "the directory of their state, which survives a restart")
	f.StringVar(&cfg.QEToken, "query-executor-token", "", "bearer of QueryExecutor's callbacks (QUERY_EXECUTOR_TOKEN)")
	f.StringVar(&cfg.ETLToken, "etl-token", "", "bearer of the ETL's callbacks (SOLR_ETL_TOKEN)")
	f.StringVar(&cfg.ExportToken, "export-token", "", "what the export API asks for (EXPORT_API_AUTH_TOKEN)")
	f.StringVar(&cfg.HadoopToken, "hadoop-token", "", "what the Hadoop API asks for (HADOOP_API_AUTH_TOKEN)")
	f.Int64Var(&cfg.Seed, "seed", 1, "of the hospital")
	f.IntVar(&cfg.Patients, "patients", 0, "of the hospital (2000)")
	f.IntVar(&cfg.Perimeters, "perimeters", 0, "of the hospital (320)")
	f.DurationVar(&cfg.Latency, "latency", 50*time.Millisecond, "how long a job of QueryExecutor runs")
	f.DurationVar(&cfg.IndexDelay, "index-delay", 200*time.Millisecond, "how long the ETL takes for a large cohort")
	f.DurationVar(&cfg.TaskDuration, "task-duration", time.Second, "how long a task of the export or the Hadoop API takes")
	f.IntVar(&cfg.CohortCreationLimit, "size-limit", 0, "above it a cohort is large (20000)")
	f.StringVar(&cfg.Listen.FHIR, "listen-fhir", "", "address of FHIR, as of all others: any free port of 127.0.0.1 unless given")
	f.StringVar(&cfg.Listen.QueryExecutor, "listen-query-executor", "", "address of QueryExecutor")
	f.StringVar(&cfg.Listen.Export, "listen-export", "", "address of the export API")
	f.StringVar(&cfg.Listen.Hadoop, "listen-hadoop", "", "address of the Hadoop API")
	f.StringVar(&cfg.Listen.WebHDFS, "listen-webhdfs", "", "address of WebHDFS")
	f.StringVar(&cfg.Listen.SMTP, "listen-smtp", "", "address of the mail server")
	f.StringVar(&cfg.Listen.OIDC, "listen-oidc", "", "address of the OIDC issuer")
	f.StringVar(&cfg.Listen.Control, "listen-control", "", "address of their own API (mails, faults, requests, jobs)")
	return cmd
}
