package embedded

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate"
	"cohortflow/internal/simulate/fhirsim"
)

// Simulators says what to simulate: the flags of "simulate".
type Simulators = simulate.Config

// ServeSimulators runs the simulators alone until ctx ends, and tells out where they are.
func ServeSimulators(ctx context.Context, cfg Simulators, out io.Writer) error {
	cfg.FHIRAuth, cfg.Clock = fhirsim.AnyToken, clock.System{}
	suite, err := simulate.New(cfg)
	if err != nil {
		return err
	}
	if err := suite.Start(ctx); err != nil {
		return err
	}
	if err := showAddresses(out, suite.Addresses()); err != nil {
		return err
	}
	<-ctx.Done()
	fmt.Fprintln(out, "\nStopping.")
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	return suite.Stop(stopping)
}

// showAddresses prints what the product's environment has to say.
func showAddresses(out io.Writer, at simulate.Addresses) error {
	host, port, err := net.SplitHostPort(at.SMTP)
	if err != nil {
		return err
	}
	fmt.Fprintf(out, `The simulators are up.

FHIR_URL=%s
QUERY_EXECUTOR_URL=%s
EXPORT_API_URL=%s
HADOOP_API_URL=%s
STORAGE_PROVIDERS=%s
EMAIL_HOST=%s
EMAIL_PORT=%s

OIDC issuer        %s
mails, faults, …   %s/_simulate/mails

ctrl-C stops them; the next start finds their state again.
`, at.FHIR, at.QueryExecutor, at.Export, at.Hadoop, at.WebHDFS, host, port, at.OIDC, at.Control)
	return nil
}
