package mail

import (
	"fmt"
	"time"
)

// SourceCohort is the cohort that an export is named after: that of its first table having one (contract: exports.md 22).
// Both are blank when no table has one.
type SourceCohort struct {
	// GroupID is the cohort's group_id.
	GroupID string
	Name    string
}

// id and name read None in subjects when there is no cohort, as users know them.
func (c SourceCohort) id() string   { return orNone(c.GroupID) }
func (c SourceCohort) name() string { return orNone(c.Name) }

func orNone(s string) string {
	if s == "" {
		return "None"
	}
	return s
}

// ExportReceived confirms an export, or its being tried again.
type ExportReceived struct {
	RecipientName string
	Cohort        SourceCohort
	// Hive is true for a transfer to a Jupyter environment, false for files.
	Hive bool
	// Retried is true when an administrator launched the export again.
	Retried bool
	// SelectedTables are the names of the tables; none are left once their cohorts were deleted.
	SelectedTables []string
}

func (l ExportReceived) draft() draft {
	d := draft{
		kind: KindExportReceived, template: "csv_export_received",
		subject:  fmt.Sprintf("[Cohorte %s] Demande d'export `%s` reçue", l.Cohort.id(), l.Cohort.name()),
		required: map[string]any{"recipient_name": l.RecipientName, "cohort_id": l.Cohort.id(), "retried": l.Retried},
		optional: map[string]any{"selected_tables": l.SelectedTables},
	}
	if l.Hive {
		d.template = "hive_export_received"
		d.subject = fmt.Sprintf("[Cohorte %s] Demande reçue de transfert en environnement Jupyter", l.Cohort.id())
	}
	return d
}

// ExportSucceeded says that an export is done, and where its files are.
type ExportSucceeded struct {
	RecipientName  string
	Cohort         SourceCohort
	Hive           bool
	SelectedTables []string
	// DownloadURL is Links.Export; a transfer to Hive needs none, nor the DeleteDate.
	DownloadURL string
	// DatabaseName is the export's target name.
	DatabaseName string
	// DeleteDate is the day on which the files go: today and DAYS_TO_KEEP_EXPORTED_FILES more.
	DeleteDate time.Time
}

func (l ExportSucceeded) draft() draft {
	d := draft{
		kind: KindExportSucceeded, template: "csv_export_succeeded",
		subject: fmt.Sprintf("[Cohorte %s] Export `%s` terminé", l.Cohort.id(), l.Cohort.name()),
		required: map[string]any{
			"recipient_name": l.RecipientName, "cohort_id": l.Cohort.id(),
			"download_url": l.DownloadURL, "database_name": l.DatabaseName, "delete_date": formatted(l.DeleteDate, "02 January 2006"),
		},
		optional: map[string]any{"selected_tables": l.SelectedTables},
	}
	if l.Hive {
		// There are no files: the two are given to templates of sites that may want them.
		d.template = "hive_export_succeeded"
		for _, name := range []string{"download_url", "delete_date"} {
			d.optional[name] = d.required[name]
			delete(d.required, name)
		}
	}
	return d
}

// ExportFailed tells the owner that an export came to nothing, and why where that is known.
type ExportFailed struct {
	RecipientName string
	Cohort        SourceCohort
	ErrorMessage  string
}

func (l ExportFailed) draft() draft {
	return draft{
		kind: KindExportFailed, template: "export_failed",
		subject:  fmt.Sprintf("[Cohorte %s] Votre demande d'export `%s` n'a pas abouti", l.Cohort.id(), l.Cohort.name()),
		required: map[string]any{"recipient_name": l.RecipientName, "cohort_id": l.Cohort.id()},
		optional: map[string]any{"error_message": l.ErrorMessage},
	}
}

// ExportFailedAdmins tells the administrators of a failed export, in one message to all of them.
type ExportFailedAdmins struct {
	Cohort     SourceCohort
	ExportID   string
	ExportDate time.Time
	// Host is Links.Host.
	Host string
	// ErrorMessage, JobID and JobDuration are blank when the export failed before there were any.
	ErrorMessage, JobID, JobDuration string
}

func (l ExportFailedAdmins) draft() draft {
	return draft{
		kind: KindExportFailedAdmins, template: "export_failed_admins", subject: "Demande d'export échouée",
		required: map[string]any{
			"recipient_name": "Admin", "cohort_id": l.Cohort.id(), "cohort_name": l.Cohort.name(), "export_id": l.ExportID,
			"export_date": isoTime(l.ExportDate), "host": l.Host,
		},
		optional: map[string]any{"error_message": l.ErrorMessage, "job_id": l.JobID, "job_duration": l.JobDuration},
	}
}

// ExportFilesDeleted confirms that the files of an export were removed.
type ExportFilesDeleted struct {
	RecipientName string
	Cohort        SourceCohort
}

func (l ExportFilesDeleted) draft() draft {
	return draft{
		kind: KindExportFilesDeleted, template: "exported_files_deleted",
		subject:  fmt.Sprintf("[Cohorte %s] Confirmation de suppression de fichiers exportés", l.Cohort.id()),
		required: map[string]any{"recipient_name": l.RecipientName, "cohort_id": l.Cohort.id()},
	}
}

// isoTime writes a time as Python does: with microseconds when there are any, and +00:00.
func isoTime(t time.Time) string {
	if t.Nanosecond()/1000 == 0 {
		return formatted(t, "2006-01-02T15:04:05-07:00")
	}
	return formatted(t, "2006-01-02T15:04:05.000000-07:00")
}
