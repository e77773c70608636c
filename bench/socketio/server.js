// The Socket.IO server as its documentation has it, with its defaults: clients name their channels when
// they connect, and get the messages of these. Messages come as JSON lines on standard input. The memory of
// the process is told in the words of Go's heap profile.
import { createServer } from "node:http"
import { createInterface } from "node:readline"
import { Server } from "socket.io"

const web = createServer((req, res) => {
  if (req.url === "/readyz") return res.end()
  if (req.url.endsWith("gc=1")) globalThis.gc()
  const { heapUsed, heapTotal, external } = process.memoryUsage()
  res.end(`# HeapInuse = ${heapUsed + external}\n# Stack = 0\n# HeapIdle = ${heapTotal - heapUsed}\n# HeapReleased = 0\n`)
})
const io = new Server(web, { pingInterval: 3_600_000 })
io.on("connection", socket => socket.join(socket.handshake.auth.channels))
createInterface({ input: process.stdin }).on("line", line => {
  const { channel, data } = JSON.parse(line)
  io.to(channel).emit("message", { data })
})
web.listen(Number(process.argv[2]), "127.0.0.1")
