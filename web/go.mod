module github.com/herald-push/herald/web

go 1.26.0
