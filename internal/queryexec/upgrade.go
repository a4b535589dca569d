package queryexec

import (
	"errors"
	"slices"
	"strings"
)

// Upgrade is what became of a stored query or filter.
type Upgrade struct {
	From, To string // versions; From is "" for a document that names none
	Text     string // the new document or filter
	// Rewritten tells that more than the version has changed.
	Rewritten bool
}

// ErrNoWay says that nothing leads from the version of a document to the one that is wanted: it stays as it is.
var ErrNoWay = errors.New("nothing leads from this version to the one that is wanted")

// What else may be wrong with a stored document.
var (
	errNoObject = errors.New("it is no JSON object")
	errNoQuery  = errors.New("it, or a part of it, is no query of a known _type")
	errNoFilter = errors.New("a criterion has no resourceType, or a filter that is no text")
	errNoValue  = errors.New("a filter has a parameter without a value")
	errNoDates  = errors.New("a criterion has a range of dates that cannot be read")
)

// UpgradeQuery brings a stored query to a version (cohort.md 25), one of Versions; one that is there already comes back as it
// was. It stores nothing. Errors are ErrNoWay, or say why the document cannot be read, without a value of it.
func UpgradeQuery(serialized, to string) (Upgrade, error) {
	value, err := parseDocument(serialized)
	if err != nil {
		return Upgrade{}, err
	}
	document, ok := value.(*object)
	if !ok {
		return Upgrade{}, errNoObject
	}
	version, _ := document.values["version"].(string)
	u := Upgrade{From: version, To: to, Text: serialized}
	list, err := way(version, to)
	if err != nil || version == to {
		return u, err
	}
	for _, s := range list {
		changed, err := s.query(document)
		if err != nil {
			return u, err
		}
		u.Rewritten = u.Rewritten || changed
	}
	document.set("version", to)
	w := writer{ascii: true, spaced: true}
	w.object(document)
	u.Text = w.String()
	return u, nil
}

// UpgradeFilter is UpgradeQuery for a saved filter of a resource.
func UpgradeFilter(resource, filter, version, to string) (Upgrade, error) {
	u := Upgrade{From: version, To: to, Text: filter}
	list, err := way(version, to)
	if err != nil {
		return u, err
	}
	for _, s := range list {
		next, err := s.filter(resource, u.Text)
		if err != nil {
			return Upgrade{From: version, To: to, Text: filter}, err
		}
		u.Text = next
	}
	u.Rewritten = u.Text != filter
	return u, nil
}

// query rewrites a document. Two shapes are older than groups: a join of resources, and a single one.
func (s step) query(document *object) (changed bool, err error) {
	switch document.values["_type"] {
	case "request":
		root, ok := document.values["request"].(*object)
		if !ok {
			return false, nil // no criteria
		}
		return s.node(root)
	case "InnerJoin":
		return s.join(document)
	case "resource":
		return s.resource(document, "fhirFilter")
	}
	return false, errNoQuery
}

// node rewrites a group with all that is in it, or a criterion.
func (s step) node(node *object) (changed bool, err error) {
	criteria, group := node.values["criteria"].([]any)
	if node.values["_type"] == basicResource || !group {
		return s.criterion(node)
	}
	return s.all(criteria, s.node)
}

func (s step) join(node *object) (changed bool, err error) {
	if node.values["_type"] != "InnerJoin" {
		return s.resource(node, "fhirFilter")
	}
	children, ok := node.values["child"].([]any)
	if !ok {
		return false, errNoQuery
	}
	return s.all(children, s.join)
}

// all rewrites every node of a list; one that cannot be is an error of the whole.
func (s step) all(nodes []any, rewrite func(*object) (bool, error)) (changed bool, err error) {
	for _, node := range nodes {
		o, ok := node.(*object)
		if !ok {
			return false, errNoQuery
		}
		one, err := rewrite(o)
		if err != nil {
			return false, err
		}
		changed = changed || one
	}
	return changed, nil
}

func (s step) criterion(node *object) (changed bool, err error) {
	if changed, err = s.resource(node, "filterFhir"); err != nil || !s.dates {
		return changed, err
	}
	moved, err := moveDates(node)
	return changed || moved, err
}

// resource rewrites the filter that stands under a key. None is an empty one.
func (s step) resource(node *object, key string) (changed bool, err error) {
	resource, named := node.values["resourceType"].(string)
	filter, isText := node.values[key].(string)
	if !named || !isText && node.values[key] != nil {
		return false, errNoFilter
	}
	next, err := s.filter(resource, filter)
	if err != nil || next == filter {
		return false, err
	}
	node.set(key, next)
	return true, nil
}

// filter applies the rules of the resource. A filter without any stays as it is written.
func (s step) filter(resource, filter string) (string, error) {
	rules, there := s.params[resource]
	if !there {
		return filter, nil
	}
	var pieces, names []string
	for _, piece := range splitPieces(strings.TrimSpace(filter)) {
		if strings.TrimSpace(piece) == "" {
			continue
		}
		old, value, ok := strings.Cut(piece, "=")
		if !ok {
			return "", errNoValue
		}
		name := old
		if renamed, ok := rules.rename[old]; ok {
			name = renamed
		}
		if change, ok := rules.value[old]; ok {
			value = change(value)
		}
		pieces, names = append(pieces, name+"="+value), append(names, name)
	}
	for _, p := range rules.missing {
		if !slices.Contains(names, p.name) {
			pieces = append(pieces, p.name+"="+p.value)
		}
	}
	return strings.Join(pieces, "&"), nil
}

// splitPieces cuts a filter at each "&", except where it stands between spaces, alone or doubled: there it is data.
func splitPieces(filter string) []string {
	var pieces []string
	begin := 0
	for i := 0; i < len(filter); i++ {
		if filter[i] != '&' {
			continue
		}
		rest := filter[i:]
		if i > 0 && filter[i-1] == ' ' && (strings.HasPrefix(rest, "& ") || strings.HasPrefix(rest, "&& ")) {
			i += strings.IndexByte(rest, ' ')
			continue
		}
		pieces, begin = append(pieces, filter[begin:i]), i+1
	}
	return append(pieces, filter[begin:])
}

// moveDates writes the date ranges of a criterion into its filter. Those of a resource that has no such date stay.
func moveDates(node *object) (moved bool, err error) {
	resource, _ := node.values["resourceType"].(string)
	for _, move := range []struct{ key, param string }{
		{"dateRangeList", resourceDates[resource]}, {"encounterDateRange", encounterDate(resource)}} {
		ranges := rangesOf(node.values[move.key])
		if move.param == "" || len(ranges) == 0 {
			continue
		}
		for _, r := range ranges {
			if err := addDates(node, r, move.param); err != nil {
				return false, err
			}
		}
		node.remove(move.key)
		moved = true
	}
	return moved, nil
}

// rangesOf is a list of ranges, or one, as a list.
func rangesOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// addDates appends one range. Undated resources belong to it unless it says that they do not.
func addDates(node *object, value any, param string) error {
	r, ok := value.(*object)
	if !ok {
		return errNoDates
	}
	var bounds [2]string
	for i, key := range []string{"minDate", "maxDate"} {
		if bounds[i], ok = r.values[key].(string); !ok && r.values[key] != nil {
			return errNoDates
		}
	}
	piece := dateFilter(param, bounds[0], bounds[1], r.values["dateIsNotNull"] != false)
	if piece == "" {
		return nil
	}
	filter, _ := node.values["filterFhir"].(string)
	if strings.TrimSpace(filter) != "" {
		piece = filter + "&" + piece
	}
	node.set("filterFhir", piece)
	return nil
}
