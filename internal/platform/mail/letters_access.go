package mail

import "time"

// AccessExpiry warns that accesses end in some days (contract: accesses.md 17).
type AccessExpiry struct {
	RecipientName string
	ExpiryDays    int
	// ManagersLink is ACCESS_MANAGERS_LIST_LINK; may be blank.
	ManagersLink string
}

func (l AccessExpiry) draft() draft {
	return draft{
		kind: KindAccessExpiry, template: "access_expiry_alert", subject: "Expiration de vos accès à Cohort360",
		required: map[string]any{"recipient_name": l.RecipientName, "expiry_days": l.ExpiryDays},
		optional: map[string]any{"access_managers_list_link": l.ManagersLink},
	}
}

// OrbisReport tells administrators what the ORBIS synchronisation did (contract: accesses.md 20).
type OrbisReport struct {
	SyncTime time.Time
	// Username is set when one user alone was synchronised.
	Username string
	// SkippedRoles and MissingPerimeters are sorted; either may be empty.
	SkippedRoles, MissingPerimeters []string
	OrbisAccesses, NewAccesses      int
}

func (l OrbisReport) draft() draft {
	subject := "Rapport de synchronisation des accès ORBIS"
	if l.Username != "" {
		subject += " pour l'utilisateur " + l.Username
	}
	return draft{
		kind: KindOrbisReport, template: "sync_orbis_accesses_report", subject: subject,
		required: map[string]any{
			"sync_time": formatted(l.SyncTime, "02/01/2006 15:04:05"), "count_orbis_accesses": l.OrbisAccesses, "count_new_accesses": l.NewAccesses,
		},
		optional: map[string]any{
			"recipient_name": "Admin", "skipped_roles": l.SkippedRoles, "missing_perimeters": l.MissingPerimeters,
		},
	}
}

// ServerError tells administrators that a request ended in an error of ours (contract: system.md 14.5). It says where and when:
// nothing of what was asked, by whom, or of values.
type ServerError struct {
	At time.Time
	// Method and Route name the route ("GET", "/users/:username/"), never the path that was asked for.
	Method, Route string
	// Others is how many more there were since the last such mail.
	Others int
}

func (l ServerError) draft() draft {
	return draft{
		kind: KindServerError, template: "server_error", subject: "[Cohortflow] Internal Server Error: " + l.Method + " " + l.Route,
		required: map[string]any{"failed_at": formatted(l.At, "02/01/2006 15:04:05"), "method": l.Method, "route": l.Route},
		optional: map[string]any{"recipient_name": "Admin", "count_others": l.Others},
	}
}

// formatted is a time in UTC, or nothing for no time.
func formatted(t time.Time, layout string) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(layout)
}
