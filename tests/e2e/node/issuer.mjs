// A foreign issuer: oidc-provider, over TLS, with a client that gets a JWT by client credentials.
//
//   issuer.mjs DIRECTORY AUDIENCE
//
// DIRECTORY has issuer.pem and issuer.key, for localhost. Prints its URL when it listens.

import { readFileSync } from "node:fs";
import { createServer } from "node:https";

import Provider from "oidc-provider";

const [directory, audience] = process.argv.slice(2);
const read = (name) => readFileSync(`${directory}/${name}`);
const server = createServer({ cert: read("issuer.pem"), key: read("issuer.key") });
server.listen(0, "127.0.0.1", () => {
  const url = `https://localhost:${server.address().port}`;
  const provider = new Provider(url, {
    clients: [
      {
        client_id: "ci",
        client_secret: "a secret of the other issuer",
        grant_types: ["client_credentials"],
        redirect_uris: [],
        response_types: [],
      },
    ],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: () => ({
          scope: "",
          audience,
          accessTokenTTL: 300,
          accessTokenFormat: "jwt",
          jwt: { sign: { alg: "RS256" } },
        }),
      },
    },
  });
  server.on("request", provider.callback());
  console.log(url);
});
