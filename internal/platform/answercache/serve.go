package answercache

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"

	"github.com/gin-gonic/gin"
	"github.com/redis/go-redis/v9"

	"cohortflow/internal/platform/web"
)

// kept is one question whose answer is kept: the names are those of the contract's keys (system.md 9.2).
type kept struct {
	name  string // view and action
	group Group
}

// questions are the routes whose answers are kept.
var questions = map[string]kept{
	"/users/":                                   {"UserViewSet.list", Rights},
	"/accesses/accesses/":                       {"AccessViewSet.list", Rights},
	"/accesses/accesses/my-accesses/":           {"AccessViewSet.get_my_accesses", Rights},
	"/accesses/accesses/my-data-rights/":        {"AccessViewSet.get_my_data_reading_rights", Rights},
	"/accesses/perimeters/":                     {"PerimeterViewSet.list", Rights},
	"/accesses/perimeters/manageable/":          {"PerimeterViewSet.get_manageable_perimeters", Rights},
	"/accesses/perimeters/patient-data/rights/": {"PerimeterViewSet.get_data_read_rights_on_perimeters", Rights},
	"/accesses/perimeters/patient-data/read/":   {"PerimeterViewSet.check_read_patient_data_rights", Cohorts},
	"/accesses/perimeters/:id/children/":        {"NestedPerimeterViewSet.list", Rights},
	"/accesses/roles/":                          {"RoleViewSet.list", Rights},
	"/accesses/roles/assignable/":               {"RoleViewSet.get_assignable_roles", Rights},
	"/accesses/rights/":                         {"RightsViewSet.list", Rights},
	"/accesses/profiles/":                       {"ProfileViewSet.list", Rights},
	"/cohort/folders/":                          {"FolderViewSet.list", Cohorts},
	"/cohort/requests/":                         {"RequestViewSet.list", Cohorts},
	"/cohort/folders/:uuid/requests/":           {"NestedRequestViewSet.list", Cohorts},
	"/cohort/cohorts/":                          {"CohortResultViewSet.list", Cohorts},
	"/cohort/fhir-filters/":                     {"FhirFilterViewSet.list", Cohorts},
	"/exports/":                                 {"ExportViewSet.list", Exports},

	"/accesses/perimeters/:id/children/manageable/":          {"NestedPerimeterViewSet.get_manageable_perimeters", Rights},
	"/accesses/perimeters/:id/children/patient-data/rights/": {"NestedPerimeterViewSet.get_data_read_rights_on_perimeters", Rights},
	"/accesses/perimeters/:id/children/patient-data/read/":   {"NestedPerimeterViewSet.check_read_patient_data_rights", Cohorts},
}

// groupsOf are what a change on a path makes wrong. Users and all that is not told apart touch the rights, on which every
// group depends.
func groupsOf(path string) []Group {
	switch {
	case strings.HasPrefix(path, "/cohort/"):
		return []Group{Cohorts}
	case strings.HasPrefix(path, "/exports/"):
		return []Group{Exports, Cohorts} // its subsets are cohorts, its filters are filters
	}
	return []Group{Rights}
}

// Around is web's Config.Cache: it gives the kept answer, keeps one that is made, and learns of changes.
func (c *Cache) Around(g *gin.Context, r web.Route, do func(*gin.Context) error) error {
	switch g.Request.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions:
	default:
		return c.change(g, r.Path, do)
	}
	question, known := questions[r.Path]
	user := c.cfg.User(g)
	if !known || g.Request.Method != http.MethodGet || user == "" {
		return do(g)
	}
	return c.answer(g, question, user, do)
}

// change holds the answer back until what it makes wrong cannot be reached any more: who has it reads nothing older.
func (c *Cache) change(g *gin.Context, path string, do func(*gin.Context) error) error {
	if path == "/cache" || path == "/cache/" {
		return do(g)
	}
	held := &holder{ResponseWriter: g.Writer}
	g.Writer = held
	err := do(g)
	g.Writer = held.ResponseWriter
	c.Changed(g.Request.Context(), groupsOf(path)...) // also after an error: part of the change may have been made
	if held.body.Len() > 0 {
		_, _ = g.Writer.Write(held.body.Bytes()) // the client may be gone
	}
	return err
}

// holder keeps an answer.
type holder struct {
	gin.ResponseWriter
	body bytes.Buffer
}

// Write implements io.Writer.
func (h *holder) Write(p []byte) (int, error) { return h.body.Write(p) }

// WriteString implements io.StringWriter.
func (h *holder) WriteString(s string) (int, error) { return h.body.WriteString(s) }

func (c *Cache) answer(g *gin.Context, q kept, user string, do func(*gin.Context) error) error {
	ctx, cancel := c.bounded(g.Request.Context())
	defer cancel()
	generation, ok := c.present(ctx, q.group)
	if !ok {
		return do(g)
	}
	exact := exactly(g.Request)
	place := c.place(q.group, generation, user, exact)
	if e, found := c.read(ctx, place); found && e.Exact == exact {
		for name, values := range e.Header {
			g.Writer.Header()[name] = values
		}
		g.Status(e.Status)
		_, _ = g.Writer.Write(e.Body) // the client may be gone
		return nil
	}
	copied := &recorder{ResponseWriter: g.Writer}
	g.Writer = copied
	err := do(g)
	g.Writer = copied.ResponseWriter
	if err != nil || copied.Status() >= http.StatusBadRequest || copied.body.Len() > largest {
		return err
	}
	e := entry{Key: keyOf(user, q.name, g.Request), Exact: exact, Status: copied.Status(), Header: headers(g.Writer.Header()), Body: copied.body.Bytes()}
	writing, done := c.bounded(g.Request.Context())
	defer done()
	if err := c.write(writing, place, e); err != nil {
		c.cfg.Log.DebugContext(writing, "answer cache: not kept", "error", err)
	}
	return nil
}

// exactly is all of a request that an answer depends on, besides its user: addresses of other pages show the host.
func exactly(r *http.Request) string {
	return strings.Join([]string{r.Host, r.Header.Get("X-Forwarded-Proto"), r.Header.Get("Accept"), r.URL.RequestURI()}, "\n")
}

// keyOf is the key that the contract shows (system.md 9.2): parameters in the order received, the last of a name.
func keyOf(user, name string, r *http.Request) string {
	key := user + "." + name + "." + r.URL.Path
	values, seen := r.URL.Query(), map[string]bool{}
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		raw, _, _ := strings.Cut(pair, "=")
		name, err := url.QueryUnescape(raw)
		if all := values[name]; err == nil && len(all) > 0 && !seen[name] {
			seen[name] = true
			key += "." + name + "=" + all[len(all)-1]
		}
	}
	return key
}

// headers are those that belong to the answer; the others are the request's, and are made anew.
func headers(all http.Header) map[string][]string {
	some := map[string][]string{}
	for _, name := range []string{"Content-Type", "Content-Length"} {
		if values := all.Values(name); len(values) > 0 {
			some[name] = values
		}
	}
	return some
}

// recorder copies an answer while it is sent.
type recorder struct {
	gin.ResponseWriter
	body bytes.Buffer
}

// Write implements io.Writer.
func (r *recorder) Write(p []byte) (int, error) {
	if r.body.Len() <= largest {
		r.body.Write(p)
	}
	return r.ResponseWriter.Write(p)
}

// WriteString implements io.StringWriter.
func (r *recorder) WriteString(s string) (int, error) { return r.Write([]byte(s)) }

// found is a kept answer and where it is.
type found struct {
	entry
	place string
}

// entries are the answers of the present generations whose key contains a text, in the order of their keys.
func (c *Cache) entries(ctx context.Context, contains string) (list []found, err error) {
	for _, g := range []Group{Rights, Cohorts, Exports} {
		generation, ok := c.present(ctx, g)
		if !ok {
			continue
		}
		places, err := c.scan(ctx, prefix+string(g)+":"+generation+":*")
		if err != nil {
			return nil, err
		}
		for _, place := range places {
			if e, ok := c.read(ctx, place); ok && strings.Contains(e.Key, contains) {
				list = append(list, found{e, place})
			}
		}
	}
	slices.SortFunc(list, func(a, b found) int { return strings.Compare(a.Key, b.Key) })
	return list, nil
}

// scan lists the keys of a pattern, on every node.
func (c *Cache) scan(ctx context.Context, pattern string) (keys []string, err error) {
	var mu sync.Mutex
	one := func(ctx context.Context, node *redis.Client) error {
		it := node.Scan(ctx, 0, pattern, 500).Iterator()
		for it.Next(ctx) {
			mu.Lock()
			keys = append(keys, it.Val())
			mu.Unlock()
		}
		return it.Err()
	}
	switch client := c.cfg.Redis.(type) {
	case *redis.ClusterClient:
		err = client.ForEachMaster(ctx, one)
	case *redis.Client:
		err = one(ctx, client)
	}
	if err != nil {
		return nil, fmt.Errorf("list the kept answers: %w", err)
	}
	slices.Sort(keys)
	return slices.Compact(keys), nil // a scan may tell a key twice
}
