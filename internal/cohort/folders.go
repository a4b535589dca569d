package cohort

import (
	"context"
	"fmt"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/web"
)

// folderView is a folder as clients see it (cohort.md 5.1).
type folderView struct {
	UUID          uuid.UUID    `json:"uuid"`
	Name          string       `json:"name"`
	Description   *string      `json:"description"`
	CreatedAt     web.Datetime `json:"created_at"`
	RequestsCount int64        `json:"requests_count"`
}

// folderBody documents what may be written.
type folderBody struct {
	Name        string  `json:"name"`
	Description *string `json:"description"`
}

// countedFolder is a folder with the number of its live requests.
type countedFolder struct {
	Folder
	RequestsCount int64 `gorm:"->"`
}

const folderColumns = `cohort_folder.*, (SELECT COUNT(*) FROM cohort_request r
	WHERE r.parent_folder_id = cohort_folder.uuid AND r.deleted IS NULL) AS requests_count`

func (f countedFolder) view() folderView {
	return folderView{UUID: f.UUID, Name: f.Name, Description: f.Description, CreatedAt: web.Datetime(f.CreatedAt),
		RequestsCount: f.RequestsCount}
}

func (a *api) listFolders(c *gin.Context) error {
	q := web.QueryOf(c)
	name, from, to := q.Text("name"), q.Time("min_created_at"), q.Time("max_created_at")
	terms, orders := q.Search(), q.Ordering("name", "created_at", "modified_at")
	if err := q.Err(); err != nil {
		return err
	}
	db := owned[Folder](a.db.Read(c.Request.Context()), identity.CallerOf(c).Username).Select(folderColumns)
	if name != "" {
		db = db.Where("cohort_folder.name = ?", name)
	}
	db = between(db, "cohort_folder.created_at", from, to)
	db = search(db, terms, "cohort_folder.name")
	p := web.OffsetPage(c)
	rows, total, err := page[countedFolder](db, ordering(orders, map[string]string{
		"name": "cohort_folder.name", "created_at": "cohort_folder.created_at", "modified_at": "cohort_folder.modified_at"}), p)
	if err != nil {
		return err
	}
	views := make([]folderView, len(rows))
	for i, r := range rows {
		views[i] = r.view()
	}
	web.JSON(c, http.StatusOK, web.Envelope(c, p, total, views))
	return nil
}

func (a *api) getFolder(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	return a.showFolder(c, http.StatusOK, id)
}

func (a *api) showFolder(c *gin.Context, status int, id uuid.UUID) error {
	f, err := a.folder(c.Request.Context(), identity.CallerOf(c), id)
	if err != nil {
		return err
	}
	web.JSON(c, status, f.view())
	return nil
}

// folder reads one of the caller's folders.
func (s *Service) folder(ctx context.Context, caller identity.Caller, id uuid.UUID) (countedFolder, error) {
	return own[countedFolder](s.db.Read(ctx).Select(folderColumns), caller.Username, id)
}

// folderFields reads what may be written; a POST has no partial body.
func folderFields(c *gin.Context, partial bool) (map[string]any, error) {
	f, err := fieldsOf(c, partial, nil, "owner")
	if err != nil {
		return nil, err
	}
	set := map[string]any{}
	if name := f.String("name", web.Required, web.MaxLen(50)); name.Set {
		set["name"] = name.Value
	}
	if d := f.String("description", web.Nullable, web.Blank); d.Set {
		set["description"] = d.Ptr()
	}
	checkOwner(f, identity.CallerOf(c))
	return set, f.Err()
}

func (a *api) createFolder(c *gin.Context) error {
	set, err := folderFields(c, false)
	if err != nil {
		return err
	}
	row := Folder{Base: a.base(), OwnerID: identity.CallerOf(c).Username, Name: set["name"].(string)}
	row.Description, _ = set["description"].(*string)
	err = a.db.Update(c.Request.Context(), func(tx *database.Tx) error { return tx.Create(&row).Error })
	if err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	web.JSON(c, http.StatusCreated, countedFolder{Folder: row}.view())
	return nil
}

func (a *api) changeFolder(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	if _, err := own[Folder](a.db.Read(ctx), caller.Username, id); err != nil {
		return err
	}
	set, err := folderFields(c, true)
	if err != nil {
		return err
	}
	err = a.db.Update(ctx, func(tx *database.Tx) error { return change[Folder](tx.DB, caller.Username, id, a.stamped(set)) })
	if err != nil {
		return err
	}
	return a.showFolder(c, http.StatusOK, id)
}

// stamped adds the time of a change.
func (s *Service) stamped(set map[string]any) map[string]any {
	set["modified_at"] = s.clock.Now()
	return set
}

// change writes columns of the caller's row, which must still be there.
func change[T tabler](g *gorm.DB, owner string, id uuid.UUID, set map[string]any) error {
	var row T
	res := owned[T](g, owner).Where(row.TableName()+".uuid = ?", id).Updates(set)
	if res.Error != nil {
		return fmt.Errorf("change %s %s: %w", row.TableName(), id, res.Error)
	}
	if res.RowsAffected == 0 { // deleted meanwhile
		_, err := own[T](g, owner, id)
		return err
	}
	return nil
}
