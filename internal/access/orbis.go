package access

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"gorm.io/gorm"

	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// OrbisReport is what a synchronisation with the hospital's directory did (accesses.md 20).
type OrbisReport struct {
	// Username is the user of a run for one.
	Username string `json:"username,omitempty"`
	// At is when it ran.
	At time.Time `json:"at"`
	// SkippedRoles are codes whose role does not exist here, MissingPerimeters ids that are not here; both sorted, each once.
	SkippedRoles      []string `json:"skipped_roles"`
	MissingPerimeters []string `json:"missing_perimeters"`
	// OrbisAccesses were read, NewAccesses made.
	OrbisAccesses int `json:"orbis_accesses"`
	NewAccesses   int `json:"new_accesses"`
	// Unreadable entries were passed over.
	Unreadable int `json:"unreadable"`
	// Differences tell each access that is given (+), changed (~) or ended (-), and each profile likewise: for a terminal only.
	Differences []string `json:"-"`
}

func (r *OrbisReport) differs(sign, format string, args ...any) {
	r.Differences = append(r.Differences, sign+" "+fmt.Sprintf(format, args...))
}

// orbisBatch is how many users one search asks for.
const orbisBatch = 100

// directoryEntry is what is read of the FHIR resources Practitioner and PractitionerRole.
type directoryEntry struct {
	ResourceType string `json:"resourceType"`
	ID           string `json:"id"`
	Active       *bool  `json:"active"` // nil: the directory does not say
	Identifier   []struct {
		Value string `json:"value"`
	} `json:"identifier"`
	Practitioner fhirReference `json:"practitioner"`
	Organization fhirReference `json:"organization"`
	Code         []struct {
		Coding []struct {
			Code string `json:"code"`
		} `json:"coding"`
	} `json:"code"`
	Period struct {
		Start string `json:"start"`
		End   string `json:"end"`
	} `json:"period"`
}

type fhirReference struct {
	Reference string `json:"reference"`
}

// id is the last part of the reference.
func (r fhirReference) id() string { return r.Reference[strings.LastIndexByte(r.Reference, '/')+1:] }

func (r directoryEntry) code() string {
	if len(r.Code) == 0 || len(r.Code[0].Coding) == 0 {
		return ""
	}
	return r.Code[0].Coding[0].Code
}

// SyncOrbis takes accesses from the hospital's directory: for one user, or with an empty name for all (accesses.md 20).
// Whoever has left loses what the directory gave. A role of the directory that is active gives one access, and one that is
// not ends it. An access that somebody has changed by hand is only ever shortened. The administrators get a report. The
// directory is read first; then all is written in one transaction.
func (s *Service) SyncOrbis(ctx context.Context, username string) (report OrbisReport, err error) {
	if s.peers.Directory == nil {
		return OrbisReport{}, errors.New("there is no directory to take accesses from: set FHIR_URL, and ORBIS_ACCESSES_SYNC_ENABLED=true")
	}
	usernames := []string{username}
	if username == "" {
		err := s.db.Read(ctx).Table("user").Where("delete_datetime IS NULL").Order("username").Pluck("username", &usernames).Error
		if err != nil {
			return OrbisReport{}, fmt.Errorf("read the users to look up in the directory: %w", err)
		}
	}
	run := &orbisRun{service: s, report: OrbisReport{Username: username, At: s.clock.Now()}}
	if err := run.fetchAll(ctx, usernames); err != nil {
		return run.report, err
	}
	err = run.apply(ctx)
	return run.report, err
}

// orbisRun is one synchronisation under way.
type orbisRun struct {
	service *Service
	report  OrbisReport
	batches []orbisAnswer
}

// orbisAnswer is what the directory says of some users.
type orbisAnswer struct {
	asked  []string
	staff  []directoryEntry  // Practitioners
	roles  []directoryEntry  // PractitionerRoles that give something here
	owners map[string]string // Practitioner → username
}

// fetchAll asks about all users, before anything is changed: a directory that fails in the middle changes nothing.
func (r *orbisRun) fetchAll(ctx context.Context, usernames []string) error {
	for batch := range slices.Chunk(usernames, orbisBatch) {
		answer, err := r.fetch(ctx, batch)
		if err != nil {
			return fmt.Errorf("look users up in the directory: %w", err)
		}
		r.batches = append(r.batches, answer)
	}
	return nil
}

// fetch asks the directory for users and their roles.
func (r *orbisRun) fetch(ctx context.Context, usernames []string) (orbisAnswer, error) {
	answer := orbisAnswer{asked: usernames, owners: map[string]string{}}
	params := url.Values{"_revinclude": {"PractitionerRole:practitioner"}, "identifier": {strings.Join(usernames, ",")}}
	for raw, err := range r.service.peers.Directory.Search(ctx, "Practitioner", params) {
		if err != nil {
			return orbisAnswer{}, err
		}
		var entry directoryEntry
		switch err := json.Unmarshal(raw, &entry); {
		case err != nil:
			r.report.Unreadable++
		case entry.ResourceType == "Practitioner" && len(entry.Identifier) > 0:
			answer.staff = append(answer.staff, entry)
			answer.owners[entry.ID] = entry.Identifier[0].Value
		case entry.ResourceType == "PractitionerRole" && careTeamCodes[entry.code()]:
			answer.roles = append(answer.roles, entry)
		}
	}
	return answer, nil
}

// apply writes what all users have, and owes the report.
func (r *orbisRun) apply(ctx context.Context) error {
	s := r.service
	tree, err := s.store.tree(ctx)
	if err != nil {
		return err
	}
	read := r.report
	return s.write(ctx, func(tx *database.Tx) error {
		r.report = read
		for _, answer := range r.batches {
			left, err := r.staff(tx, answer)
			if err != nil {
				return err
			}
			if err := r.roles(tx, tree, answer, left); err != nil {
				return err
			}
		}
		for _, list := range []*[]string{&r.report.SkippedRoles, &r.report.MissingPerimeters} {
			slices.Sort(*list)
			*list = slices.Compact(*list)
		}
		if s.peers.Mailer == nil {
			return nil
		}
		return s.peers.Mailer.OrbisReport(ctx, tx, r.report)
	})
}

// roles brings the accesses of some users up to date; those who have left get none.
func (r *orbisRun) roles(tx *database.Tx, tree *Tree, answer orbisAnswer, left map[string]bool) error {
	for _, role := range answer.roles {
		r.report.OrbisAccesses++
		username := answer.owners[role.Practitioner.id()]
		if role.ID == "" || role.Active == nil || !slices.Contains(answer.asked, username) {
			r.report.Unreadable++
			continue
		}
		if left[username] {
			role.Active = new(false)
		}
		if err := r.one(tx, tree, username, role); err != nil {
			return fmt.Errorf("access of practitioner role %s: %w", role.ID, err)
		}
	}
	return nil
}

// one brings the access of one role of the directory up to date.
func (r *orbisRun) one(tx *database.Tx, tree *Tree, username string, role directoryEntry) error {
	if !*role.Active {
		return r.end(tx, role.ID)
	}
	wanted, complete, err := r.wanted(tx, tree, role)
	if err != nil || !complete {
		return err
	}
	var known Access
	err = tx.Where("external_id = ?", role.ID).Order("id").Take(&known).Error
	if err == nil {
		return r.renew(tx, known, wanted, role.Period.End != "")
	}
	if !errors.Is(err, gorm.ErrRecordNotFound) {
		return err
	}
	profile, err := ensureProfile(tx.DB, username, SourceOrbis, stampsAt(r.report.At))
	if err != nil {
		return err
	}
	wanted.Stamps, wanted.Source, wanted.ProfileID, wanted.ExternalID = stampsAt(r.report.At), new(SourceOrbis), &profile.ID, &role.ID
	r.report.NewAccesses++
	r.report.differs("+", "access %s: %s on perimeter %d", role.ID, username, *wanted.PerimeterID)
	return tx.Create(&wanted).Error
}

// end ends the accesses of a role that is not active any more, now; it never prolongs one.
func (r *orbisRun) end(tx *database.Tx, externalID string) error {
	ended := r.endWhere(tx, "external_id = ?", externalID)
	if ended.RowsAffected > 0 {
		r.report.differs("-", "access %s", externalID)
	}
	return ended.Error
}

// endWhere ends accesses now that would end later.
func (r *orbisRun) endWhere(tx *database.Tx, condition string, args ...any) *gorm.DB {
	return tx.Model(&Access{}).Where(condition, args...).Where("delete_datetime IS NULL AND end_datetime > ?", r.report.At).
		Updates(map[string]any{"end_datetime": r.report.At, "update_datetime": r.report.At})
}

// wanted is the access that a role stands for; incomplete when its role or its perimeter is not here, or a date is none.
func (r *orbisRun) wanted(tx *database.Tx, tree *Tree, role directoryEntry) (a Access, complete bool, err error) {
	var here Role
	err = tx.Where("name = ? AND delete_datetime IS NULL", careTeamRole).Order("id").Take(&here).Error
	if errors.Is(err, gorm.ErrRecordNotFound) {
		r.report.SkippedRoles = append(r.report.SkippedRoles, role.code())
		return a, false, nil
	}
	if err != nil {
		return a, false, err
	}
	perimeter, err := strconv.ParseInt(role.Organization.id(), 10, 64)
	if err != nil || tree.Live(perimeter) == nil {
		r.report.MissingPerimeters = append(r.report.MissingPerimeters, role.Organization.id())
		return a, false, nil
	}
	start, end := r.report.At, r.report.At.AddDate(0, 0, r.service.cfg.ValidityDays)
	for _, bound := range []struct {
		text string
		at   *time.Time
	}{{role.Period.Start, &start}, {role.Period.End, &end}} {
		if bound.text == "" {
			continue
		}
		moment, ok := web.ParseDatetime(bound.text)
		if !ok {
			r.report.Unreadable++
			return a, false, nil
		}
		*bound.at = moment
	}
	return Access{RoleID: &here.ID, PerimeterID: &perimeter, StartDatetime: &start, EndDatetime: &end}, true, nil
}

// renew changes a known access to what the directory says now. Without an end in the directory it ends when it ends; what
// somebody has deleted stays deleted, and what somebody has changed by hand is only shortened.
func (r *orbisRun) renew(tx *database.Tx, known, wanted Access, endGiven bool) error {
	if known.DeleteDatetime != nil {
		return nil
	}
	next := known
	if known.EndDatetime == nil || endGiven && (known.UpdatedBy == nil || wanted.EndDatetime.Before(*known.EndDatetime)) {
		next.EndDatetime = wanted.EndDatetime
	}
	if known.UpdatedBy == nil {
		next.RoleID, next.PerimeterID = wanted.RoleID, wanted.PerimeterID
		if known.StartDatetime == nil || wanted.StartDatetime.Before(r.report.At) { // not "now", when the directory has none
			next.StartDatetime = wanted.StartDatetime
		}
	}
	if equalPtr(next.RoleID, known.RoleID) && equalPtr(next.PerimeterID, known.PerimeterID) &&
		equalTime(next.StartDatetime, known.StartDatetime) && equalTime(next.EndDatetime, known.EndDatetime) {
		return nil
	}
	next.UpdateDatetime = &r.report.At
	r.report.differs("~", "access %s", deref(known.ExternalID))
	return tx.Model(&next).Select("role_id", "perimeter_id", "start_datetime", "end_datetime", "update_datetime").Updates(&next).Error
}

func equalTime(a, b *time.Time) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(*b)
}

// SystemUser is the account in whose name the directory is asked (system.md 3.9).
const SystemUser = "system"

// EnsureSystemUser makes the account with full administration on the root perimeter unless it exists; what is there, is left
// as it is. Without that perimeter or a full administrators' role it gets no access.
func (s *Service) EnsureSystemUser(ctx context.Context) error {
	return s.db.Update(ctx, func(tx *database.Tx) error {
		created, err := s.peers.Users.EnsureUser(ctx, tx, NewUser{
			Username: SystemUser, Firstname: "System", Lastname: "SYSTEM", Email: "system.dj@aphp.fr",
		})
		if err != nil || !created {
			return err
		}
		profile, err := ensureProfile(tx.DB, SystemUser, SourceManual, stampsAt(s.clock.Now()))
		if err != nil {
			return err
		}
		var role Role
		err = tx.Where("right_full_admin AND delete_datetime IS NULL").Order("id").Take(&role).Error
		if errors.Is(err, gorm.ErrRecordNotFound) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for a full administrators' role: %w", err)
		}
		_, found, err := live[Perimeter](tx.DB, s.cfg.RootPerimeterID)
		if err != nil || !found {
			return err
		}
		now := s.clock.Now()
		_, err = s.ensureAccess(tx, profile, role, s.cfg.RootPerimeterID, now, now.Add(5200*week))
		return err
	})
}

// String tells an operator what was done, or would be.
func (r OrbisReport) String() string {
	return strings.Join(append(slices.Clone(r.Differences),
		fmt.Sprintf("%d roles read, %d accesses made, %d entries unreadable", r.OrbisAccesses, r.NewAccesses, r.Unreadable),
		"roles that are not here: "+strings.Join(r.SkippedRoles, ", "),
		"perimeters that are not here: "+strings.Join(r.MissingPerimeters, ", ")), "\n")
}
