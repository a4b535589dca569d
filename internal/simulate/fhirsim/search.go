package fhirsim

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"cohortflow/internal/simulate/hospital"
)

const (
	pageDefault = 20
	pageMost    = 1000
)

// paging is what a search says about its answer, apart from what it looks for.
type paging struct {
	count, offset int
	onlyTotal     bool
	elements      []string
	ids, lists    []string
	sort          string
	rest          []hospital.Param
}

func parsePaging(raw string) (paging, error) {
	p := paging{count: pageDefault}
	params, err := hospital.SplitQuery(raw)
	if err != nil {
		return p, err
	}
	for _, param := range params {
		switch param.Key {
		case "_count":
			if p.count, err = strconv.Atoi(param.Value); err != nil || p.count < 0 {
				return p, errors.New("_count is not a number")
			}
			p.onlyTotal = p.onlyTotal || p.count == 0
			p.count = min(p.count, pageMost)
		case "_offset":
			if p.offset, err = strconv.Atoi(param.Value); err != nil || p.offset < 0 {
				return p, errors.New("_offset is not a number")
			}
		case "_summary":
			p.onlyTotal = param.Value == "count"
		case "_elements":
			p.elements = strings.Split(param.Value, ",")
		case "_id":
			p.ids = append(p.ids, strings.Split(param.Value, ",")...)
		case "_list":
			p.lists = append(p.lists, strings.Split(param.Value, ",")...)
		case "_sort":
			p.sort = param.Value
		case "_format", "_pretty", "_total", "_include", "_revinclude":
		default:
			p.rest = append(p.rest, param)
		}
	}
	return p, nil
}

// search answers a search of any type as a page of a bundle.
func (s *Server) search(w http.ResponseWriter, r *http.Request) {
	p, err := parsePaging(r.URL.RawQuery)
	if err != nil {
		refuse(w, http.StatusBadRequest, "invalid", err.Error())
		return
	}
	switch name := r.PathValue("type"); name {
	case "Organization":
		s.searchOrganizations(w, r, p)
	case "Group", "List":
		s.searchLists(w, r, name, p)
	case "Practitioner":
		s.searchPractitioners(w, r, p)
	default:
		kind, ok := hospital.KindOf(name)
		switch {
		case ok:
			s.searchKind(w, r, kind, p)
		case otherTypes[name]:
			s.bundle(w, r, p, 0, nil)
		default:
			refuse(w, http.StatusNotFound, "not-supported", fmt.Sprintf("unknown resource type %q", name))
		}
	}
}

func (s *Server) searchKind(w http.ResponseWriter, r *http.Request, k hospital.Kind, p paging) {
	found, err := s.recall(k, p)
	var unsupported *hospital.Unsupported
	switch {
	case errors.As(err, &unsupported), errors.Is(err, errSearch):
		refuse(w, http.StatusBadRequest, "invalid", err.Error())
		return
	case errors.Is(err, hospital.ErrNoList):
		found = nil // a list that does not exist holds nobody
	case err != nil:
		refuse(w, http.StatusInternalServerError, "exception", err.Error())
		return
	}
	total := len(found)
	resources := []any{}
	for _, i := range window(found, p) {
		resources = append(resources, s.render(k, i))
	}
	s.bundle(w, r, p, total, resources)
}

// window cuts the page out of all that was found.
func window[T any](all []T, p paging) []T {
	if p.onlyTotal {
		return nil
	}
	from := min(p.offset, len(all))
	return all[from:min(from+p.count, len(all))]
}

// recalled are the last searches, so that reading one page after the other does not search anew each time.
type recalled struct {
	mu    sync.Mutex
	found map[string][]int32
	order []string
}

const recalledMost = 16

// recall finds what was found before by the same search, or searches. What is given back must not be changed.
func (s *Server) recall(k hospital.Kind, p paging) ([]int32, error) {
	key := fmt.Sprintf("%d %d %q %q %q %q", s.cfg.Lists.Version(), k, p.ids, p.lists, p.sort, p.rest)
	s.last.mu.Lock()
	found, ok := s.last.found[key]
	s.last.mu.Unlock()
	if ok {
		return found, nil
	}
	found, err := s.find(k, p)
	if err != nil {
		return nil, err
	}
	s.last.mu.Lock()
	defer s.last.mu.Unlock()
	if _, ok := s.last.found[key]; !ok {
		s.last.found[key] = found
		if s.last.order = append(s.last.order, key); len(s.last.order) > recalledMost {
			delete(s.last.found, s.last.order[0])
			s.last.order = s.last.order[1:]
		}
	}
	return found, nil
}

var errSearch = errors.New("the search is not readable")

// find lists the indexes of what a search finds, in the order asked for.
func (s *Server) find(k hospital.Kind, p paging) ([]int32, error) {
	expr, err := s.h.ParseParams(k, p.rest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errSearch, err)
	}
	match, err := s.h.Compile(k, expr)
	if err != nil {
		return nil, err
	}
	among, err := s.within(k, p.lists)
	if err != nil {
		return nil, err
	}
	var found []int32
	look := func(i int32) {
		if row := s.h.Row(k, i); (among == nil || among(i, row)) && match(row) {
			found = append(found, i)
		}
	}
	if p.ids != nil {
		for _, id := range p.ids {
			if i, ok := s.h.IndexOf(k, id); ok {
				look(i)
			}
		}
	} else {
		for i := range s.h.Count(k) {
			look(int32(i))
		}
	}
	s.sort(k, found, p.sort)
	return found, nil
}

// within makes the test of _list: patients of the lists and what belongs to them; of a list of other resources, these
// resources themselves.
func (s *Server) within(k hospital.Kind, ids []string) (func(i int32, row hospital.Row) bool, error) {
	if ids == nil {
		return nil, nil
	}
	patients, resources := hospital.NewSet(s.h.Size()), hospital.NewSet(s.h.Count(k))
	for _, text := range ids {
		id, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%w: _list is not a number", errSearch)
		}
		list, err := s.cfg.Lists.Get(id)
		if err != nil {
			return nil, err
		}
		if list.Kind == k && k != hospital.Patients {
			resources.Or(list.Members)
			continue
		}
		of, err := s.cfg.Lists.PatientsOf(id)
		if err != nil {
			return nil, err
		}
		patients.Or(of)
	}
	return func(i int32, row hospital.Row) bool { return resources.Has(i) || patients.Has(row.P.Index) }, nil
}

// sort orders by the first key of _sort: a search parameter, descending with a minus. By default, and for keys that the
// type does not have, the order is that of the ids.
func (s *Server) sort(k hospital.Kind, found []int32, by string) {
	by, _, _ = strings.Cut(by, ",")
	name, descending := strings.CutPrefix(by, "-")
	field := s.h.Field(k, name)
	if field == nil {
		return
	}
	slices.SortStableFunc(found, func(a, b int32) int {
		c := field.Compare(s.h.Row(k, a), s.h.Row(k, b))
		if descending {
			return -c
		}
		return c
	})
}

// bundle writes one page. Links are absolute, on the host that was asked.
func (s *Server) bundle(w http.ResponseWriter, r *http.Request, p paging, total int, resources []any) {
	entries := make([]map[string]any, len(resources))
	base := baseOf(r) + strings.TrimSuffix(s.cfg.Base, "/")
	for i, resource := range resources {
		if m, ok := resource.(map[string]any); ok {
			entries[i] = map[string]any{"fullUrl": fmt.Sprintf("%s/%s/%s", base, m["resourceType"], m["id"]),
				"resource": only(m, p.elements), "search": map[string]string{"mode": "match"}}
		}
	}
	links := []map[string]string{{"relation": "self", "url": baseOf(r) + r.URL.RequestURI()}}
	if next := p.offset + p.count; !p.onlyTotal && p.count > 0 && next < total {
		query := url.Values{}
		for key, values := range r.URL.Query() {
			query[key] = values
		}
		query.Set("_offset", strconv.Itoa(next))
		links = append(links, map[string]string{"relation": "next", "url": baseOf(r) + r.URL.EscapedPath() + "?" + query.Encode()})
	}
	body := map[string]any{"resourceType": "Bundle", "type": "searchset", "total": total, "link": links}
	if len(entries) > 0 {
		body["entry"] = entries
	}
	answer(w, http.StatusOK, body)
}

func baseOf(r *http.Request) string {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	return scheme + "://" + r.Host
}

// only keeps the elements asked for, and those that every resource has.
func only(resource map[string]any, elements []string) map[string]any {
	if elements == nil {
		return resource
	}
	kept := map[string]any{}
	for key, value := range resource {
		if key == "resourceType" || key == "id" || slices.Contains(elements, key) {
			kept[key] = value
		}
	}
	return kept
}
