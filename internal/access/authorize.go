package access

import (
	"context"
	"fmt"
	"net/http"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// The callers that only routes of accesses, users and datalabs distinguish.
const (
	// AccessManager may read and write accesses (accesses.md 6.3).
	AccessManager web.Who = "access manager"
	// UserManager holds right_manage_users.
	UserManager web.Who = "user manager"
	// DatalabReader and DatalabManager hold right_read_datalabs; the latter right_manage_datalabs as well.
	DatalabReader  web.Who = "datalab reader"
	DatalabManager web.Who = "datalab manager"
	// AdminOrJobs are full admins and the users of QueryExecutor and of the ETL (accesses.md 7.1).
	AdminOrJobs web.Who = "full admin or jobs"
)

// Authorize is web's question whether a caller may use a route for who with a method. A name that it does not know is
// nobody's, and an error of ours.
func (s *Service) Authorize(ctx context.Context, caller identity.Caller, who web.Who, method string) error {
	if who == web.Anyone {
		return nil
	}
	if !caller.Authenticated() {
		return fault.Unauthenticated{}
	}
	var allowed func(Grants) bool
	switch who {
	case web.AnyUser, web.Owner, web.OwnerOrAdmin: // whose rows they are, the service asks
		return nil
	case web.OwnerOrJobs:
		if caller.Applicative != identity.NoMachine && method != http.MethodGet && method != http.MethodPatch {
			return fault.Forbidden{}
		}
		return nil
	case AdminOrJobs:
		if caller.Applicative != identity.NoMachine {
			return nil
		}
		allowed = Grants.FullAdmin
	case web.FullAdmin:
		allowed = Grants.FullAdmin
	case AccessManager:
		allowed = Grants.ManagesAccesses
	case UserManager:
		allowed = func(g Grants) bool { return g.Has(ManageUsers) }
	case DatalabReader:
		allowed = func(g Grants) bool { return g.Has(ReadDatalabs) }
	case DatalabManager:
		allowed = func(g Grants) bool { return g.Has(ReadDatalabs) && g.Has(ManageDatalabs) }
	default:
		return fmt.Errorf("authorize: nobody is known as %q", who)
	}
	grants, err := s.store.grants(ctx, caller.Username, s.clock.Now())
	if err != nil {
		return err
	}
	if !allowed(grants) {
		return fault.Forbidden{}
	}
	return nil
}
