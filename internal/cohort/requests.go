package cohort

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// reference is another row as clients see it inside of one.
type reference struct {
	UUID        uuid.UUID `json:"uuid"`
	Name        string    `json:"name"`
	Description *string   `json:"description"`
}

// requestView is a request as clients see it (cohort.md 6.1).
type requestView struct {
	UUID           uuid.UUID         `json:"uuid"`
	Name           string            `json:"name"`
	Description    string            `json:"description"`
	Favorite       bool              `json:"favorite"`
	QuerySnapshots []reducedSnapshot `json:"query_snapshots"`
	SharedBy       *string           `json:"shared_by"`
	ParentFolder   reference         `json:"parent_folder"`
	UpdatedAt      *spacedTime       `json:"updated_at"`
}

// requestBody documents what may be written.
type requestBody struct {
	Name         string    `json:"name"`
	Description  string    `json:"description"`
	Favorite     bool      `json:"favorite"`
	ParentFolder uuid.UUID `json:"parent_folder"`
}

// reducedSnapshot is a version of a request, as its request shows it.
type reducedSnapshot struct {
	UUID          uuid.UUID    `json:"uuid"`
	Name          *string      `json:"name"`
	CreatedAt     web.Datetime `json:"created_at"`
	CohortsCount  int64        `json:"cohorts_count"`
	PatientsCount *int64       `json:"patients_count"`
	Version       int          `json:"version"`
}

// spacedTime is a moment in the one format of the contract that is not ISO (cohort.md 2.3).
type spacedTime time.Time

// MarshalJSON implements json.Marshaler.
func (t spacedTime) MarshalJSON() ([]byte, error) {
	layout := `"2006-01-02 15:04:05.000000+00:00"`
	u := time.Time(t).UTC()
	if u.Nanosecond()/1000 == 0 {
		layout = `"2006-01-02 15:04:05+00:00"`
	}
	return []byte(u.Format(layout)), nil
}

// shownRequest is a request with what is joined to it.
type shownRequest struct {
	Request
	FolderName        string     `gorm:"->"`
	FolderDescription *string    `gorm:"->"`
	SenderName        *string    `gorm:"->"`
	UpdatedAt         *time.Time `gorm:"->;autoUpdateTime:false"`
}

// lastSnapshot is when a request was changed last: the creation of its newest snapshot.
const lastSnapshot = `(SELECT MAX(cohort_requestquerysnapshot.created_at) FROM cohort_requestquerysnapshot
	WHERE cohort_requestquerysnapshot.request_id = cohort_request.uuid AND cohort_requestquerysnapshot.deleted IS NULL
	AND ` + visibleSnapshot + `)`

// requests selects the caller's requests with their folder, sender and last change.
func requests(g *gorm.DB, owner string) *gorm.DB {
	inner := owned[Request](g.Session(&gorm.Session{NewDB: true}), owner).
		Joins("JOIN cohort_folder f ON f.uuid = cohort_request.parent_folder_id").
		Joins(`LEFT JOIN "user" u ON u.username = cohort_request.shared_by_id`).
		Select("cohort_request.*, f.name AS folder_name, f.description AS folder_description, " +
			displayName("u") + " AS sender_name, " + lastSnapshot + " AS updated_at")
	return g.Table("(?) AS cohort_request", inner)
}

// displayName is a user's name as the contract shows it (schema.md 5.1).
func displayName(u string) string {
	return fmt.Sprintf(`CASE WHEN %[1]s.username IS NULL THEN NULL ELSE COALESCE(%[1]s.firstname, 'None') || ' ' || COALESCE(%[1]s.lastname, 'None') ||
		' (' || %[1]s.username || ')' || CASE WHEN %[1]s.delete_datetime IS NULL THEN '' ELSE ' (deleted)' END END`, u)
}

func (a *api) listRequests(c *gin.Context) error {
	q := web.QueryOf(c)
	favorite, sharedBy, folderID := q.Bool("favorite"), q.Text("shared_by"), q.UUID("parent_folder")
	from, to := q.Time("min_updated_at"), q.Time("max_updated_at")
	terms, orders := q.Search(), q.Ordering("name", "updated_at", "parent_folder")
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	if err := exists[Folder](a.db.Read(ctx), q, "parent_folder", folderID); err != nil {
		return err
	}
	if err := userExists(a.db.Read(ctx), q, "shared_by", sharedBy); err != nil {
		return err
	}
	if err := q.Err(); err != nil {
		return err
	}
	db := requests(a.db.Read(ctx), caller.Username)
	if c.Param("uuid") != "" { // of one folder, by path
		id, err := web.UUID(c, "uuid")
		if err != nil {
			return err
		}
		db = db.Where("cohort_request.parent_folder_id = ?", id)
	}
	if favorite != nil {
		db = db.Where("cohort_request.favorite = ?", *favorite)
	}
	if sharedBy != "" {
		db = db.Where("cohort_request.shared_by_id = ?", sharedBy)
	}
	if folderID != nil {
		db = db.Where("cohort_request.parent_folder_id = ?", *folderID)
	}
	db = between(db, "cohort_request.updated_at", from, to)
	db = search(db, terms, "cohort_request.name", "cohort_request.description")
	p := web.OffsetPage(c)
	rows, total, err := page[shownRequest](db, ordering(orders, map[string]string{"name": "cohort_request.name",
		"updated_at": "cohort_request.updated_at", "parent_folder": "cohort_request.folder_name"}), p)
	if err != nil {
		return err
	}
	views, err := a.requestViews(ctx, rows)
	if err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

// between narrows a query to a span of time, both ends included.
func between(q *gorm.DB, column string, from, to *time.Time) *gorm.DB {
	if from != nil {
		q = q.Where(column+" >= ?", *from)
	}
	if to != nil {
		q = q.Where(column+" <= ?", *to)
	}
	return q
}

// exists refuses a filter that names no live row, of whomever (cohort.md 2.8).
func exists[T tabler](g *gorm.DB, q *web.Query, name string, id *uuid.UUID) error {
	if id == nil {
		return nil
	}
	var row T
	_, err := take[T](g.Model(&row).Where(row.TableName()+".deleted IS NULL AND "+row.TableName()+".uuid = ?", *id))
	if _, missing := err.(fault.NotFound); missing {
		q.Refuse(name, web.NoSuchChoice)
		return nil
	}
	return err
}

// userExists refuses a filter that names no user.
func userExists(g *gorm.DB, q *web.Query, name, username string) error {
	if username == "" {
		return nil
	}
	var n int64
	if err := g.Table("user").Where("username = ? AND delete_datetime IS NULL", username).Count(&n).Error; err != nil {
		return fmt.Errorf("find user of filter: %w", err)
	}
	if n == 0 {
		q.Refuse(name, web.NoSuchChoice)
	}
	return nil
}

// requestViews completes requests with their snapshots: one query, however many requests.
func (s *Service) requestViews(ctx context.Context, rows []shownRequest) ([]requestView, error) {
	reduced, err := s.reducedSnapshots(ctx, uuids(rows, func(r shownRequest) uuid.UUID { return r.UUID }))
	if err != nil {
		return nil, err
	}
	views := make([]requestView, len(rows))
	for i, r := range rows {
		v := requestView{UUID: r.UUID, Name: r.Name, Description: r.Description, Favorite: r.Favorite,
			QuerySnapshots: reduced[r.UUID], SharedBy: r.SenderName,
			ParentFolder: reference{UUID: r.ParentFolderID, Name: r.FolderName, Description: r.FolderDescription}}
		if v.QuerySnapshots == nil {
			v.QuerySnapshots = []reducedSnapshot{}
		}
		if r.UpdatedAt != nil {
			t := spacedTime(*r.UpdatedAt)
			v.UpdatedAt = &t
		}
		views[i] = v
	}
	return views, nil
}

// patientsCount is the measure of the newest count of a snapshot that is shown with it.
const patientsCount = `(SELECT cohort_datedmeasure.measure FROM cohort_datedmeasure
	WHERE cohort_datedmeasure.request_query_snapshot_id = cohort_requestquerysnapshot.uuid AND cohort_datedmeasure.deleted IS NULL
	AND ` + shownMeasure + ` ORDER BY cohort_datedmeasure.created_at DESC, cohort_datedmeasure.uuid DESC LIMIT 1)`

// reducedSnapshots reads the visible snapshots of requests, the newest first, by request.
func (s *Service) reducedSnapshots(ctx context.Context, requestIDs []uuid.UUID) (map[uuid.UUID][]reducedSnapshot, error) {
	if len(requestIDs) == 0 {
		return nil, nil
	}
	var rows []struct {
		UUID          uuid.UUID
		RequestID     uuid.UUID
		Name          *string
		CreatedAt     time.Time
		Version       int
		CohortsCount  int64
		PatientsCount *int64
	}
	g := s.db.Read(ctx)
	err := live[Snapshot](g).Where(within(g, "cohort_requestquerysnapshot.request_id", requestIDs)).
		Select(`uuid, request_id, name, created_at, version,
			(SELECT COUNT(*) FROM cohort_cohortresult c WHERE c.request_query_snapshot_id = cohort_requestquerysnapshot.uuid
				AND c.deleted IS NULL) AS cohorts_count, ` + patientsCount + ` AS patients_count`).
		Order("created_at DESC, uuid").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("list snapshots of requests: %w", err)
	}
	by := map[uuid.UUID][]reducedSnapshot{}
	for _, r := range rows {
		by[r.RequestID] = append(by[r.RequestID], reducedSnapshot{UUID: r.UUID, Name: r.Name, CreatedAt: web.Datetime(r.CreatedAt),
			CohortsCount: r.CohortsCount, PatientsCount: r.PatientsCount, Version: r.Version})
	}
	return by, nil
}

// requestPath reads the ids of a path: the request's, and that of the folder it must be in, if the path is a nested one.
func requestPath(c *gin.Context) (id uuid.UUID, folderID *uuid.UUID, err error) {
	if c.Param("nested") == "" {
		id, err = web.UUID(c, "uuid")
		return id, nil, err
	}
	parent, err := web.UUID(c, "uuid")
	if err != nil {
		return id, nil, err
	}
	id, err = web.UUID(c, "nested")
	return id, &parent, err
}

// ownRequest finds the caller's request of a path.
func (s *Service) ownRequest(c *gin.Context) (Request, error) {
	id, folderID, err := requestPath(c)
	if err != nil {
		return Request{}, err
	}
	q := s.db.Read(c.Request.Context())
	if folderID != nil {
		q = q.Where("cohort_request.parent_folder_id = ?", *folderID)
	}
	return own[Request](q, identity.CallerOf(c).Username, id)
}

func (a *api) getRequest(c *gin.Context) error {
	r, err := a.ownRequest(c)
	if err != nil {
		return err
	}
	return a.showRequest(c, http.StatusOK, r.UUID)
}

func (a *api) showRequest(c *gin.Context, status int, id uuid.UUID) error {
	ctx := c.Request.Context()
	row, err := take[shownRequest](requests(a.db.Read(ctx), identity.CallerOf(c).Username).Where("cohort_request.uuid = ?", id))
	if err != nil {
		return err
	}
	views, err := a.requestViews(ctx, []shownRequest{row})
	if err != nil {
		return err
	}
	web.JSON(c, status, views[0])
	return nil
}

// requestFields reads what may be written; the folder of a nested path wins over the body's.
func (a *api) requestFields(c *gin.Context, partial bool, forced web.Object) (map[string]any, error) {
	f, err := fieldsOf(c, partial, forced, "owner", "parent_folder")
	if err != nil {
		return nil, err
	}
	caller, set := identity.CallerOf(c), map[string]any{}
	if name := f.String("name", web.Required, web.MaxLen(255)); name.Set {
		set["name"] = name.Value
	}
	if d := f.String("description", web.Blank); d.Set {
		set["description"] = d.Value
	}
	if b := f.Bool("favorite"); b.Set {
		set["favorite"] = b.Value
	}
	parent := f.Ref("parent_folder", web.Required)
	row, err := refer[Folder](a.db.Read(c.Request.Context()), f, "parent_folder", caller.Username, parent)
	if err != nil {
		return nil, err
	}
	if row != nil {
		set["parent_folder_id"] = row.UUID
	}
	checkOwner(f, caller)
	return set, f.Err()
}

func (a *api) createRequest(c *gin.Context) error {
	var forced web.Object
	if c.Param("uuid") != "" { // in a folder, by path: the path decides
		id, err := web.UUID(c, "uuid")
		if err != nil {
			return err
		}
		forced = web.Object{"parent_folder": id.String()}
	}
	set, err := a.requestFields(c, false, forced)
	if err != nil {
		return err
	}
	row := Request{Base: a.base(), OwnerID: identity.CallerOf(c).Username, Name: set["name"].(string),
		ParentFolderID: set["parent_folder_id"].(uuid.UUID)}
	row.Description, _ = set["description"].(string)
	row.Favorite, _ = set["favorite"].(bool)
	err = a.db.Update(c.Request.Context(), func(tx *database.Tx) error { return tx.Create(&row).Error })
	if err != nil {
		return fmt.Errorf("create request: %w", err)
	}
	return a.showRequest(c, http.StatusCreated, row.UUID)
}

func (a *api) changeRequest(c *gin.Context) error {
	r, err := a.ownRequest(c)
	if err != nil {
		return err
	}
	set, err := a.requestFields(c, true, nil)
	if err != nil {
		return err
	}
	err = a.db.Update(c.Request.Context(), func(tx *database.Tx) error {
		return change[Request](tx.DB, identity.CallerOf(c).Username, r.UUID, a.stamped(set))
	})
	if err != nil {
		return err
	}
	return a.showRequest(c, http.StatusOK, r.UUID)
}
