package mail

import (
	"net/url"
	"strings"
)

// Links makes the addresses that mails and reports point to (contract: system.md 15.3, cohort.md 21 and 23.2,
// exports.md 22).
type Links struct {
	// Frontend is FRONTEND_URL.
	Frontend string
	// BackendHost is BACKEND_HOST, without scheme.
	BackendHost string
}

// Study is the page that downloads a feasibility report.
func (l Links) Study(id string) string {
	return l.page("/download/feasibility-studies/" + url.PathEscape(id) + "/")
}

// Export is the page that downloads the files of an export.
func (l Links) Export(id string) string {
	return l.page("/download/exports/" + url.PathEscape(id) + "/")
}

// Cohort is the page that shows a cohort.
func (l Links) Cohort(groupID string) string {
	return l.page("/cohort?groupId=" + url.QueryEscape(groupID))
}

// Request is the page that shows a request, named in feasibility reports.
func (l Links) Request(id string) string {
	return l.page("/cohort/new/" + url.PathEscape(id))
}

// Host is the back-end's address as administrators are told.
func (l Links) Host() string { return "https://" + l.BackendHost }

func (l Links) page(path string) string { return strings.TrimSuffix(l.Frontend, "/") + path }
