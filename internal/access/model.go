package access

import (
	"strconv"
	"strings"
	"time"
)

// Stamps are the columns that all tables of this capability share (accesses.md 3.1). A row with a DeleteDatetime is gone
// for everything but what still points to it.
type Stamps struct {
	InsertDatetime *time.Time
	UpdateDatetime *time.Time
	DeleteDatetime *time.Time
}

func stampsAt(now time.Time) Stamps { return Stamps{InsertDatetime: &now, UpdateDatetime: &now} }

// Perimeter is a care site, a node of the tree (accesses.md 3.2).
type Perimeter struct {
	Stamps          `gorm:"embedded"`
	ID              int64 `gorm:"primaryKey;autoIncrement:false"`
	LocalID         string
	Name            *string
	SourceValue     *string
	ShortName       *string
	TypeSourceValue *string
	// AboveLevelsIDs are the ids of all ancestors, InferiorLevelsIDs those of the direct children: comma lists that clients
	// read. Nothing here decides by them: see Tree.
	AboveLevelsIDs    *string `gorm:"column:above_levels_ids"`
	InferiorLevelsIDs *string `gorm:"column:inferior_levels_ids"`
	// CohortID is the virtual cohort that holds the perimeter's patients: what queries and snapshots call the perimeter.
	CohortID   *string
	FullPath   *string
	CohortSize *string
	ParentID   *int64
	Level      *int
	// The three numbers are those of CountUsers (accesses.md 16).
	CountAllowedUsers               *int
	CountAllowedUsersAboveLevels    *int
	CountAllowedUsersInferiorLevels *int
}

// TableName is read by gorm.
func (Perimeter) TableName() string { return "accesses_perimeter" }

// Live tells whether the perimeter is not soft-deleted.
func (p *Perimeter) Live() bool { return p.DeleteDatetime == nil }

// Role is a named set of rights (accesses.md 3.3).
type Role struct {
	Stamps `gorm:"embedded"`
	ID     int64 `gorm:"primaryKey"`
	Name   *string
	Flags  `gorm:"embedded"`
}

// TableName is read by gorm.
func (Role) TableName() string { return "accesses_role" }

// CatalogueRight describes a right to the portal (accesses.md 3.4).
type CatalogueRight struct {
	ID          int64
	Name        string
	Label       string
	Category    string
	IsGlobal    bool
	DependsOnID *int64
}

// TableName is read by gorm.
func (CatalogueRight) TableName() string { return "accesses_right" }

// The sources of profiles and accesses.
const (
	SourceManual = "Manual"
	SourceOrbis  = "ORBIS"
)

// Profile ties accesses to a user, one for each source (accesses.md 3.5).
type Profile struct {
	Stamps   `gorm:"embedded"`
	ID       int64 `gorm:"primaryKey"`
	Source   *string
	IsActive *bool
	UserID   *string
}

// TableName is read by gorm.
func (Profile) TableName() string { return "accesses_profile" }

// Access gives a profile a role on a perimeter for a time (accesses.md 3.6).
type Access struct {
	Stamps        `gorm:"embedded"`
	ID            int64 `gorm:"primaryKey"`
	Source        *string
	PerimeterID   *int64
	ProfileID     *int64
	RoleID        *int64
	CreatedBy     *string
	UpdatedBy     *string
	StartDatetime *time.Time
	EndDatetime   *time.Time
	ExternalID    *string
}

// TableName is read by gorm.
func (Access) TableName() string { return "accesses_access" }

// ValidAt is is_valid: begun and not ended. An access without one of its dates never is.
func (a *Access) ValidAt(now time.Time) bool {
	return a.StartDatetime != nil && a.EndDatetime != nil && !a.StartDatetime.After(now) && a.EndDatetime.After(now)
}

// joinIDs writes ids as the comma lists of the perimeter table.
func joinIDs(ids []int64) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatInt(id, 10))
	}
	return b.String()
}

// deref is the text of a nullable column, empty for null.
func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
