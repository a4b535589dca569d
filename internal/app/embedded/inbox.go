package embedded

import (
	"fmt"
	"os"

	"cohortflow/internal/demo"
)

// mails are those that arrived at an address, oldest first.
func (in *installation) mails(to string) []demo.Mail {
	var mails []demo.Mail
	for _, m := range in.suite.Inbox().To(to) {
		mails = append(mails, demo.Mail{Subject: m.Subject, Text: m.Text})
	}
	return mails
}

// stored is the size of an exported file. The root keeps the path inside the directory of files.
func (in *installation) stored(path string) (int64, error) {
	root, err := os.OpenRoot(in.dir.file("files"))
	if err != nil {
		return 0, fmt.Errorf("open the directory of files: %w", err)
	}
	defer func() { _ = root.Close() }()
	info, err := root.Stat("." + path)
	if err != nil {
		return 0, fmt.Errorf("look at an exported file: %w", err)
	}
	return info.Size(), nil
}
