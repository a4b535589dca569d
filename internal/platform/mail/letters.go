package mail

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// Kind names one mail of the catalogue.
type Kind string

// The kinds, in the order of contract system.md 15.3.
const (
	KindSharedRequest        Kind = "shared_request"
	KindFeasibilityRequested Kind = "feasibility_report_requested"
	KindFeasibilityReady     Kind = "feasibility_report_ready"
	KindFeasibilityError     Kind = "feasibility_report_error"
	KindCountRefreshed       Kind = "count_request_refreshed"
	KindLargeCohortReady     Kind = "large_cohort_finished"
	KindAccessExpiry         Kind = "access_expiry_alert"
	KindOrbisReport          Kind = "sync_orbis_accesses_report"
	KindServerError          Kind = "server_error"
	KindExportReceived       Kind = "export_received"
	KindExportSucceeded      Kind = "export_succeeded"
	KindExportFailed         Kind = "export_failed"
	KindExportFailedAdmins   Kind = "export_failed_admins"
	KindExportFilesDeleted   Kind = "exported_files_deleted"
)

// Letter is what one kind of mail tells: one of the structs of this package, its fields filled in.
type Letter interface {
	draft() draft
}

// draft is a letter put into the terms of its template.
type draft struct {
	kind     Kind
	template string
	subject  string
	// required must not be empty; optional may be, and the templates live without.
	required, optional map[string]any
}

// Compose makes the message of a letter. It refuses one with a value missing, and names it: that is a mistake of the
// program, never of a user, whose blank names are replaced before.
func Compose(to []string, letter Letter) (Message, error) {
	d := letter.draft()
	var missing []string
	data := map[string]any{}
	for name, value := range d.required {
		if isEmpty(value) {
			missing = append(missing, name)
		}
		data[name] = value
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return Message{}, fmt.Errorf("compose mail %s: missing %s", d.kind, strings.Join(missing, ", "))
	}
	for name, value := range d.optional {
		data[name] = value
	}
	return Message{To: to, Subject: d.subject, Template: d.template, Data: data}, nil
}

// isEmpty is about texts, lists and times; a number or a truth value is always said.
func isEmpty(value any) bool {
	switch v := value.(type) {
	case nil:
		return true
	case string:
		return strings.TrimSpace(v) == ""
	case time.Time:
		return v.IsZero()
	}
	v := reflect.ValueOf(value)
	return v.Kind() == reflect.Slice && v.Len() == 0
}

// Entry describes one kind of mail, for documentation and for the test that renders them all.
type Entry struct {
	Kind Kind
	// Templates are the names of its .html and .txt files; exports have one for files and one for Hive.
	Templates []string
	// Requires and Optional are the template's variables, sorted. All also have contact_email_address.
	Requires, Optional []string
}

// Catalogue lists every mail there is.
func Catalogue() []Entry {
	letters := []Letter{
		SharedRequest{}, FeasibilityRequested{}, FeasibilityReady{}, FeasibilityError{}, CountRefreshed{}, LargeCohortReady{},
		AccessExpiry{}, OrbisReport{}, ServerError{}, ExportReceived{}, ExportReceived{Hive: true}, ExportSucceeded{}, ExportSucceeded{Hive: true},
		ExportFailed{}, ExportFailedAdmins{}, ExportFilesDeleted{},
	}
	var entries []Entry
	for _, letter := range letters {
		d := letter.draft()
		if n := len(entries); n > 0 && entries[n-1].Kind == d.kind {
			entries[n-1].Templates = append(entries[n-1].Templates, d.template)
			continue
		}
		entries = append(entries, Entry{
			Kind: d.kind, Templates: []string{d.template}, Requires: sortedKeys(d.required), Optional: sortedKeys(d.optional),
		})
	}
	return entries
}

func sortedKeys(m map[string]any) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// named stands in for the blank names that users may give.
func named(name string) string {
	if strings.TrimSpace(name) == "" {
		return "(sans nom)"
	}
	return name
}
