module github.com/herald-push/herald/proto

go 1.26.0
