// A peer: oidc-provider with one client, which gets a JWT signed with Ed25519 for each request.
// Prints the port when it is ready. Run beside the installed packages.
import { createServer } from 'node:http';

import { exportJWK, generateKeyPair } from 'jose';
import { Provider } from 'oidc-provider';

const AUDIENCE = 'https://billing.example';
const { privateKey } = await generateKeyPair('EdDSA', { crv: 'Ed25519', extractable: true });
const key = { ...(await exportJWK(privateKey)), alg: 'EdDSA', use: 'sig', kid: 'bench' };

const provider = new Provider('http://127.0.0.1', {
  jwks: { keys: [key] },
  clients: [
    {
      client_id: 'bench',
      client_secret: 'bench-secret',
      grant_types: ['client_credentials'],
      id_token_signed_response_alg: 'EdDSA',
      redirect_uris: [],
      response_types: [],
    },
  ],
  enabledJWA: { idTokenSigningAlgValues: ['EdDSA'] },
  features: {
    devInteractions: { enabled: false },
    clientCredentials: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => AUDIENCE,
      getResourceServerInfo: () => ({
        scope: 'invoices.read payments.read',
        audience: AUDIENCE,
        accessTokenFormat: 'jwt',
        accessTokenTTL: 300,
        jwt: { sign: { alg: 'EdDSA' } },
      }),
    },
  },
});

const server = createServer(provider.callback());
server.listen(0, '127.0.0.1', () => console.log(server.address().port));
