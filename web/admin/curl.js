// Calls as a line for a terminal. Everything that is not ours stands in single quotes, where a shell expands nothing.

/** @param {string} text */
export const quote = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/**
 * Follows what a connection follows.
 *
 * @param {{channels: string[], user?: string, last_id?: string}} connection
 * @param {string} [home] URL of the folder that the gateway answers in; without it the line has $HERALD_URL
 */
export function follow(connection, home) {
  const query = connection.channels.map((name) => `channel=${encodeURIComponent(name)}`).join("&");
  const url = home ? quote(`${new URL("sse", home)}?${query}`) : `"$HERALD_URL"${quote(`/sse?${query}`)}`;
  const parts = ["curl -N", url];
  if (connection.last_id) parts.push(`-H ${quote(`Last-Event-ID: ${connection.last_id}`)}`);
  if (connection.user) parts.push('-H "Authorization: Bearer $HERALD_TOKEN"');
  return parts.join(" ");
}

/**
 * @param {string} body JSON
 * @param {string} [home] URL of the folder that ingest answers in
 */
export function publish(body, home) {
  const url = home ? quote(String(new URL("v1/messages", home))) : '"$HERALD_URL"/v1/messages';
  return `curl ${url} -H "X-API-KEY: $HERALD_API_KEY" -H 'Content-Type: application/json' -d ${quote(body)}`;
}
