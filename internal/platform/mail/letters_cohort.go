package mail

import "fmt"

// SharedRequest tells a recipient that somebody shared a request with them (contract: cohort.md 7.4, 21).
type SharedRequest struct {
	// RecipientName is a display name, `First LAST (username)`, as everywhere in this package.
	RecipientName string
	// OwnerName is `First LAST` of who shares.
	OwnerName   string
	RequestName string
}

func (l SharedRequest) draft() draft {
	return draft{
		kind: KindSharedRequest, template: "shared_request",
		subject:  l.OwnerName + " a partagé une requête avec vous",
		required: map[string]any{"recipient_name": l.RecipientName, "owner_name": l.OwnerName, "request_name": named(l.RequestName)},
	}
}

// FeasibilityRequested confirms that a feasibility study was launched.
type FeasibilityRequested struct {
	RecipientName, RequestName string
}

func (l FeasibilityRequested) draft() draft {
	return draft{
		kind: KindFeasibilityRequested, template: "feasibility_report_requested", subject: "Votre demande de rapport",
		required: map[string]any{"recipient_name": l.RecipientName, "request_name": named(l.RequestName)},
	}
}

// FeasibilityReady says where the report of a study can be downloaded (Links.Study).
type FeasibilityReady struct {
	RecipientName, RequestName, DownloadURL string
}

func (l FeasibilityReady) draft() draft {
	return draft{
		kind: KindFeasibilityReady, template: "feasibility_report_ready", subject: "Votre rapport est prêt",
		required: map[string]any{"recipient_name": l.RecipientName, "request_name": named(l.RequestName), "download_url": l.DownloadURL},
	}
}

// FeasibilityError says that a study failed.
type FeasibilityError struct {
	RecipientName, RequestName string
}

func (l FeasibilityError) draft() draft {
	return draft{
		kind: KindFeasibilityError, template: "feasibility_report_error", subject: "Votre demande de rapport a échoué",
		required: map[string]any{"recipient_name": l.RecipientName, "request_name": named(l.RequestName)},
	}
}

// CountRefreshed says that a schedule counted a request again. Version is that of the snapshot.
type CountRefreshed struct {
	RecipientName, RequestName string
	Version                    int
}

func (l CountRefreshed) draft() draft {
	return draft{
		kind: KindCountRefreshed, template: "count_request_refreshed", subject: "Votre requête a été bien rafraichie",
		required: map[string]any{
			"recipient_name": l.RecipientName,
			"request_name":   fmt.Sprintf("%s (version %d)", named(l.RequestName), l.Version),
		},
	}
}

// LargeCohortReady says that a cohort which took long is there (Links.Cohort).
type LargeCohortReady struct {
	RecipientName, CohortName, CohortURL string
}

func (l LargeCohortReady) draft() draft {
	return draft{
		kind: KindLargeCohortReady, template: "large_cohort_finished", subject: "Votre cohorte est prête",
		required: map[string]any{"recipient_name": l.RecipientName, "cohort_name": named(l.CohortName), "cohort_url": l.CohortURL},
	}
}
