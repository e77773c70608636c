module github.com/herald-push/herald/packaging

go 1.26.0
