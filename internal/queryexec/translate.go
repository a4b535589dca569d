package queryexec

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"cohortflow/internal/fhir"
)

// Filters translates one filter of the UI; *fhir.Client does.
type Filters interface {
	Translate(ctx context.Context, resourceType, filter string, auth fhir.Auth) (fhir.Translation, error)
}

// Perimeters answers what a translation has to know about perimeters and rights; access does.
type Perimeters interface {
	// RootCohortIDs are the cohort ids of all perimeters of level 1 that have no parent.
	RootCohortIDs(ctx context.Context) ([]string, error)
	// MayReadNominative tells whether the user has a valid access with right_read_patient_nominative on one of the
	// perimeters that have these cohort ids, or above one of them (cohort.md 16.2).
	MayReadNominative(ctx context.Context, username string, cohortIDs []string) (bool, error)
}

// TranslatorConfig is read once, by NewTranslator. A zero field takes its default.
type TranslatorConfig struct {
	UseSolr     bool          // USE_SOLR: have every criterion's filter translated by the FHIR server
	Timeout     time.Duration // of a whole translation, however many criteria it has (5 min)
	MaxCriteria int           // criteria and groups of one query (5000)
}

// Translator makes jobs of queries. It is safe for concurrent use.
type Translator struct {
	log        *slog.Logger
	cfg        TranslatorConfig
	filters    Filters
	perimeters Perimeters
	schema     *shape
}

// NewTranslator checks its parts; filters may be nil when UseSolr is false.
func NewTranslator(log *slog.Logger, cfg TranslatorConfig, filters Filters, perimeters Perimeters) (*Translator, error) {
	if log == nil || perimeters == nil || cfg.UseSolr && filters == nil {
		return nil, errors.New("queryexec: a translator needs a logger, perimeters, and with USE_SOLR a FHIR client")
	}
	if cfg.Timeout < 0 || cfg.MaxCriteria < 0 {
		return nil, errors.New("queryexec: limits of a translation may not be negative")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Minute
	}
	if cfg.MaxCriteria == 0 {
		cfg.MaxCriteria = 5000
	}
	return &Translator{log: log, cfg: cfg, filters: filters, perimeters: perimeters, schema: newSchema()}, nil
}

// Query is what is to be counted or created.
type Query struct {
	Serialized   string // the UI's document (cohort.md 16.1)
	Mode         Mode
	InstanceID   string   // uuid of the measure, cohort or study; empty for virtual cohorts of perimeters
	Owner        string   // username; empty: nobody is named to QueryExecutor
	Sampling     *float64 // create: keep this part of the patients
	StageDetails string   // count: "all", "ratio" or a list of criterion ids
	CallbackPath string   // where to report; empty: the usual place
	// ExistingCohortID is the group to fill again instead of a new one (virtual cohorts).
	ExistingCohortID *int64
	Auth             fhir.Auth // of the user, for the FHIR server
}

// Translated is a query as QueryExecutor gets it.
type Translated struct {
	Job        Job
	Definition string  // the JSON inside of the job (cohort.md 16.4)
	Population []int64 // cohort ids of the perimeters, or the group, that the query is about
	// Pseudonymised tells that the owner may not read nominative data there. It changes nothing of what is sent
	// (cohort.md 16.2, K9).
	Pseudonymised bool
}

// QueryError says why a query can never become a job, or could not now: a sentence that ends as the failure message of
// the job. It holds nothing of the query's values.
type QueryError struct {
	Text string
	Err  error
}

func (e *QueryError) Error() string { return e.Text }
func (e *QueryError) Unwrap() error { return e.Err }

func unusable(reason error) error {
	return &QueryError{Text: "The query cannot be used: " + reason.Error() + "."}
}

// Translate checks the query and makes the job (cohort.md 16.2). What a user should be told is a *QueryError (which wraps
// a *fhir.Error where that server is the reason); anything else is trouble of our own: a database, a shutdown.
func (t *Translator) Translate(ctx context.Context, q Query) (Translated, error) {
	if !q.Mode.valid() {
		return Translated{}, fmt.Errorf("queryexec: %q is no mode", string(q.Mode))
	}
	document, err := t.read(q.Serialized)
	if err != nil {
		return Translated{}, err
	}
	population, err := t.population(ctx, q, document)
	if err != nil {
		return Translated{}, err
	}
	pseudonymised, err := t.pseudonymised(ctx, q.Owner, population)
	if err != nil {
		return Translated{}, err
	}
	if err := t.solve(ctx, q.Auth, document); err != nil {
		return Translated{}, err
	}
	if q.InstanceID != "" {
		document.set("instance_id", q.InstanceID)
	}
	w := writer{}
	w.object(document)
	job, err := newJob(q, w.String())
	if err != nil {
		return Translated{}, err
	}
	t.log.DebugContext(ctx, "query translated", "uuid", q.InstanceID, "mode", string(q.Mode), "pseudonymised", pseudonymised)
	return Translated{Job: job, Definition: w.String(), Population: population, Pseudonymised: pseudonymised}, nil
}

// read parses and checks the document.
func (t *Translator) read(serialized string) (*object, error) {
	value, err := parseDocument(serialized)
	if err != nil {
		return nil, unusable(err)
	}
	in, ok := value.(*object)
	if !ok {
		return nil, unusable(errors.New("it must be an object"))
	}
	checked, err := t.schema.read(in)
	if err != nil {
		return nil, unusable(err)
	}
	return checked.(*object), nil
}

// population replaces what the document says where the mode wants the whole institution, and tells what it is now.
func (t *Translator) population(ctx context.Context, q Query, document *object) ([]int64, error) {
	if q.Mode.wholeInstitution() {
		root, err := t.root(ctx)
		if err != nil {
			return nil, err
		}
		o := newObject()
		o.set("caresiteCohortList", []any{root})
		document.set("sourcePopulation", o)
	}
	source, ok := document.values["sourcePopulation"].(*object)
	if !ok {
		return nil, unusable(errors.New("sourcePopulation: is required"))
	}
	var ids []int64
	for _, id := range source.values["caresiteCohortList"].([]any) {
		ids = append(ids, id.(int64))
	}
	return ids, nil
}

func (t *Translator) root(ctx context.Context) (int64, error) {
	roots, err := t.perimeters.RootCohortIDs(ctx)
	if err != nil {
		return 0, fmt.Errorf("queryexec: look for the root perimeter: %w", err)
	}
	if len(roots) != 1 {
		return 0, &QueryError{Text: fmt.Sprintf("There must be exactly one root perimeter to count the whole institution; there are %d.", len(roots))}
	}
	id, err := strconv.ParseInt(strings.TrimSpace(roots[0]), 10, 64)
	if err != nil {
		return 0, &QueryError{Text: "The root perimeter has no cohort yet: the whole institution cannot be counted."}
	}
	return id, nil
}

// pseudonymised: nobody and someone without any access read pseudonymised data (16.5, case 7).
func (t *Translator) pseudonymised(ctx context.Context, owner string, population []int64) (bool, error) {
	if owner == "" || len(population) == 0 {
		return true, nil
	}
	ids := make([]string, len(population))
	for i, id := range population {
		ids[i] = strconv.FormatInt(id, 10)
	}
	may, err := t.perimeters.MayReadNominative(ctx, owner, ids)
	if err != nil {
		return false, fmt.Errorf("queryexec: look for the reading right: %w", err)
	}
	return !may, nil
}

// solve fills filterSolr of every basic criterion, depth first. What can be refused is refused before anybody is asked.
func (t *Translator) solve(ctx context.Context, auth fhir.Auth, document *object) error {
	root, ok := document.values["request"].(*object)
	if !ok {
		return nil
	}
	questions, err := t.collect(nil, root, new(int))
	if err != nil || !t.cfg.UseSolr {
		return err
	}
	limited, cancel := context.WithTimeout(ctx, t.cfg.Timeout)
	defer cancel()
	for _, q := range questions {
		if err := t.ask(limited, auth, q); err != nil {
			if ctx.Err() == nil && limited.Err() != nil {
				return &QueryError{Text: "The FHIR server took too long to translate all criteria of the query.", Err: err}
			}
			return err
		}
	}
	return nil
}

// question is what the FHIR server is asked about a criterion.
type question struct {
	criterion *object
	resource  string
	filter    string
	suffix    string // joined to the answer
}

func (t *Translator) collect(questions []question, node *object, seen *int) ([]question, error) {
	if *seen++; *seen > t.cfg.MaxCriteria {
		return nil, unusable(fmt.Errorf("it has more than %d criteria", t.cfg.MaxCriteria))
	}
	// A filter for the index that came with the document was not checked by the FHIR server: it goes no further.
	node.set("filterSolr", absent{})
	if node.values["_type"] == basicResource {
		q, err := questionOf(node, t.cfg.UseSolr)
		if err != nil {
			return nil, err
		}
		questions = append(questions, q)
	}
	for _, child := range node.values["criteria"].([]any) {
		var err error
		if questions, err = t.collect(questions, child.(*object), seen); err != nil {
			return nil, err
		}
	}
	return questions, nil
}

// questionOf: cohort.md 16.3. Without Solr QueryExecutor works from filterFhir, whatever that says.
func questionOf(node *object, solr bool) (question, error) {
	resource, ok := node.values["resourceType"].(string)
	if !ok {
		return question{}, &QueryError{Text: fmt.Sprintf("Criterion %s has no resourceType.", nameOf(node))}
	}
	filter, given := node.values["filterFhir"].(string)
	q := question{criterion: node, resource: resource, filter: filter}
	if !solr || resource != ippList {
		return q, nil
	}
	if !given {
		return question{}, &QueryError{Text: fmt.Sprintf("Criterion %s is a list of patients without a list.", nameOf(node))}
	}
	rest, ids, listed := splitIdentifiers(filter)
	if !listed {
		return q, nil
	}
	if err := checkIdentifiers(ids); err != nil {
		return question{}, &QueryError{Text: fmt.Sprintf("Criterion %s: %s.", nameOf(node), err)}
	}
	q.resource, q.filter, q.suffix = "Patient", rest, "fq="+identifierKey+":("+strings.Join(ids, " ")+")"
	return q, nil
}

func (t *Translator) ask(ctx context.Context, auth fhir.Auth, q question) error {
	translation, err := t.filters.Translate(ctx, q.resource, q.filter, auth)
	if err != nil {
		return filterError(q.criterion, err)
	}
	solr, there := translation.First()
	switch {
	case there && q.suffix != "":
		solr += "&" + q.suffix
	case q.suffix != "":
		solr, there = q.suffix, true
	}
	if there {
		q.criterion.set("filterSolr", solr)
	}
	return nil
}

func filterError(node *object, err error) error {
	var told *fhir.Error
	if errors.As(err, &told) {
		return &QueryError{Text: fmt.Sprintf("Criterion %s (%s): %s", nameOf(node), node.values["resourceType"], told.Text), Err: err}
	}
	return fmt.Errorf("queryexec: translate a filter: %w", err)
}

func nameOf(node *object) string {
	if id, ok := node.values["_id"].(int64); ok {
		return strconv.FormatInt(id, 10)
	}
	return "without _id"
}

const identifierKey = "identifier.value"

// splitIdentifiers takes the ids of the identifier pieces out of a filter.
func splitIdentifiers(filter string) (rest string, ids []string, listed bool) {
	var others []string
	for piece := range strings.SplitSeq(filter, "&") {
		key, list, _ := strings.Cut(piece, "=")
		if key != identifierKey {
			others = append(others, piece)
			continue
		}
		listed = true
		for id := range strings.SplitSeq(list, ",") {
			if id = strings.TrimSpace(id); id != "" {
				ids = append(ids, id)
			}
		}
	}
	return strings.Join(others, "&"), ids, listed
}

// checkIdentifiers lets nothing into the index's own syntax that means something there.
func checkIdentifiers(ids []string) error {
	if len(ids) == 0 {
		return errors.New("its list of patients is empty")
	}
	for i, id := range ids {
		for j, r := range id {
			plain := r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
			if !plain && (j == 0 || r != '-' && r != '_' && r != '.') {
				return fmt.Errorf("item %d of its list of patients is no identifier", i+1)
			}
		}
	}
	return nil
}
