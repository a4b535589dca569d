// Package templates holds the texts of e-mails and reports, as Django-syntax templates, and the logo that mails carry.
// platform/mail renders them; a site may mount a directory whose files replace those of the same name. It holds no code.
package templates

import (
	"embed"
	"io/fs"
)

//go:embed *.html *.txt *.png
var files embed.FS

// Files are the templates by name: <mail>.html and <mail>.txt, feasibility_report.html, logo_cohort360.png.
func Files() fs.FS { return files }
