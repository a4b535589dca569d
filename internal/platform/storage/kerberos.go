package storage

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"

	krbclient "github.com/jcmturner/gokrb5/v8/client"
	krbconfig "github.com/jcmturner/gokrb5/v8/config"
	"github.com/jcmturner/gokrb5/v8/credentials"
	"github.com/jcmturner/gokrb5/v8/spnego"
)

// Negotiator answers a Kerberos challenge: it sets the Authorization header of a request to a name node.
type Negotiator func(*http.Request) error

// TicketCache answers with the ticket that `kinit` left for this process at the start of the container and renews every
// night (KERBEROS_USER; contract: exports.md 11.1, peers.md 7.1). The ticket is read anew each time, for that reason, and
// one request is answered at a time. KRB5CCNAME and KRB5_CONFIG say where the two files are, as for all Kerberos programs.
func TicketCache() Negotiator {
	var one sync.Mutex
	return func(request *http.Request) error {
		one.Lock()
		defer one.Unlock()
		configuration, err := krbconfig.Load(cmp.Or(os.Getenv("KRB5_CONFIG"), "/etc/krb5.conf"))
		if err != nil {
			return fmt.Errorf("read the Kerberos configuration: %w", err)
		}
		cache := cmp.Or(strings.TrimPrefix(os.Getenv("KRB5CCNAME"), "FILE:"), "/tmp/krb5cc_"+strconv.Itoa(os.Getuid()))
		ticket, err := loadTickets(cache)
		if err != nil {
			return fmt.Errorf("read the ticket cache: %w", err)
		}
		client, err := krbclient.NewFromCCache(ticket, configuration, krbclient.DisablePAFXFAST(true))
		if err != nil {
			return fmt.Errorf("use the ticket cache: %w", err)
		}
		defer client.Destroy()
		if err := spnego.SetSPNEGOHeader(client, request, "HTTP/"+request.URL.Hostname()); err != nil {
			return fmt.Errorf("get a ticket for the name node: %w", err)
		}
		return nil
	}
}

// loadTickets survives a file that is being renewed or is not one: the library's parser trusts its lengths.
func loadTickets(file string) (tickets *credentials.CCache, err error) {
	defer func() {
		if recover() != nil {
			err = errors.New("it is malformed")
		}
	}()
	return credentials.LoadCCache(file)
}

// challenges tells whether an answer asks for Kerberos.
func challenges(response *http.Response) bool {
	for _, value := range response.Header.Values("WWW-Authenticate") {
		if scheme, _, _ := strings.Cut(value, " "); strings.EqualFold(scheme, "Negotiate") {
			return true
		}
	}
	return false
}
