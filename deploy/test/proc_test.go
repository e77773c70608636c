package deploy

import "github.com/herald-push/herald/services/internal/proctest"

// start runs a command of this project as a real process.
var start = proctest.Command
