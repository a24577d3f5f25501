import assert from 'node:assert/strict';
import fc from 'fast-check';
import { NIL_UUID } from '../../../src/lockspace/owner.ts';
import { asciiDocument, formatDocument } from '../../../src/restart/document.ts';
import { epollOf, magicOf, parseDocument, parseJson, parseLateClient } from '../../../src/restart/parse.ts';
import { DocumentError } from '../../../src/state/state.ts';
import { anyDocument, plainDocument } from './documents.ts';

type Node = Record<string, unknown>;

/** The node at a path of keys. */
function nodeAt(root: unknown, path: readonly (string | number)[]): Node {
  let node = root;
  for (const key of path) node = (node as Node)[key];
  return node as Node;
}

/** Every key of every object in the document, as paths. */
function* paths(node: unknown, path: (string | number)[] = []): Generator<(string | number)[]> {
  if (typeof node !== 'object' || node === null) return;
  for (const key of Object.keys(node)) {
    const step = Array.isArray(node) ? Number(key) : key;
    yield [...path, step];
    yield* paths((node as Node)[key], [...path, step]);
  }
}

const shown = (path: readonly (string | number)[]): string =>
  path
    .map((key) => (typeof key === 'number' ? `[${key}]` : `.${key}`))
    .join('')
    .slice(1);

function problem(document: unknown): string {
  try {
    parseDocument(document);
  } catch (error) {
    assert.ok(error instanceof DocumentError, String(error));
    return error.message;
  }
  return 'none';
}

/** Keys that some version leaves out. */
const OPTIONAL = ['max_anonymous_clients', 'next_client_id', 'id', 'conn_time', 'auth_pending', 'unlinkUNIX', 'admin'];

describe('the state document', () => {
  it('is read as it was written', () => {
    fc.assert(
      fc.property(anyDocument, (document) => {
        const written = formatDocument(document);
        assert.deepEqual(parseDocument(parseJson(written)), document);
        assert.equal(magicOf(parseJson(written)), document.magic);
      }),
    );
  });

  it('is written without white space', () => {
    const text = formatDocument(parseDocument(plainDocument())).toString('latin1');
    assert.doesNotMatch(text, /\s/);
    assert.deepEqual(JSON.parse(text), plainDocument());
  });

  for (const path of paths(plainDocument())) {
    const key = path.at(-1) ?? '';
    if (typeof key === 'number') continue;
    const place = shown(path);

    it(`without ${place} ${OPTIONAL.includes(key) ? 'is read' : 'is refused'}`, () => {
      const document = plainDocument();
      const parent = nodeAt(document, path.slice(0, -1));
      Reflect.deleteProperty(parent, key);
      const found = problem(document);
      if (OPTIONAL.includes(key) || place.endsWith('admin.clients[0].privateData')) assert.equal(found, 'none');
      else if (place === 'daemon') assert.equal(found, 'server: missing');
      else if (place === 'daemon.servers') assert.equal(found, 'daemon.min_workers: missing');
      else assert.equal(found, `${place}: missing`);
    });

    it(`with another type at ${place} is refused, by its place`, () => {
      for (const wrong of [null, 'x y', 1.5, [null], -7, { a: 1 }, 2 ** 53]) {
        const document = plainDocument();
        const parent = nodeAt(document, path.slice(0, -1));
        const right = parent[key];
        if (
          typeof wrong === typeof right &&
          wrong !== 1.5 &&
          (wrong === 'x y' || Array.isArray(wrong) === Array.isArray(right))
        ) {
          if (key !== 'ownerUUID' && typeof wrong === 'string') continue;
        }
        if (key === 'privateData' && place.includes('admin')) continue;
        if ((key === 'errfd' || key === 'pid' || key === 'auth') && wrong === -7) continue;
        parent[key] = wrong;
        const found = problem(document);
        assert.ok(found.startsWith(place), `${JSON.stringify(wrong)}: ${found}`);
      }
    });
  }

  describe('in an older form', () => {
    const lockServer = (): Node => nodeAt(plainDocument(), ['daemon', 'servers', 'virtlockd']);
    const withServers = (servers: Node): Node => {
      const { daemon, ...rest } = plainDocument();
      assert.ok(daemon !== undefined);
      return { ...rest, ...servers };
    };

    for (const [form, servers] of [
      ['"server" in place of "daemon"', { server: lockServer() }],
      ['"daemon" with no "servers"', { daemon: lockServer() }],
      ['"servers" as an array', { daemon: { servers: [lockServer()] } }],
    ] as const) {
      it(`${form}: one server, and no admin server`, () => {
        const document = parseDocument(withServers(servers));
        assert.equal(document.adminServer, null);
        assert.deepEqual(document.lockServer, parseDocument(plainDocument()).lockServer);
        assert.deepEqual(parseDocument(parseJson(formatDocument(document))), document);
      });
    }

    it('"daemon" wins over "server"', () => {
      const document = withServers({ server: 'rubbish', daemon: lockServer() });
      assert.equal(problem(document), 'none');
    });

    it('an array of no server, or of more than are known, is refused', () => {
      const server = lockServer();
      assert.match(problem(withServers({ daemon: { servers: [] } })), /^daemon\.servers: 0 servers/);
      assert.match(
        problem(withServers({ daemon: { servers: [server, server, server] } })),
        /^daemon\.servers: 3 servers/,
      );
    });

    it('an unknown server is refused, and a missing virtlockd', () => {
      const server = lockServer();
      assert.match(
        problem(withServers({ daemon: { servers: { virtlockd: server, other: server } } })),
        /^daemon\.servers: unknown server 'other'/,
      );
      assert.equal(
        problem(withServers({ daemon: { servers: { admin: server } } })),
        'daemon.servers.virtlockd: missing',
      );
    });

    it('keys that C leaves out have their defaults', () => {
      const document = plainDocument();
      const server = nodeAt(document, ['daemon', 'servers', 'virtlockd']);
      const client = nodeAt(server, ['clients', 0]);
      for (const key of ['max_anonymous_clients', 'next_client_id']) Reflect.deleteProperty(server, key);
      for (const key of ['id', 'conn_time', 'auth_pending']) Reflect.deleteProperty(client, key);
      server.clients = [client, structuredClone(client)];
      Reflect.deleteProperty(nodeAt(client, ['sock']), 'unlinkUNIX');
      Reflect.deleteProperty(nodeAt(server, ['services', 0, 'socks', 0]), 'unlinkUNIX');
      const { lockServer: read } = parseDocument(document);
      assert.equal(read.max_anonymous_clients, 1024);
      assert.deepEqual(
        [...read.clients].map(({ id, conn_time, auth_pending }) => [id, conn_time, auth_pending]),
        [
          [1, 0, false],
          [2, 0, false],
        ],
      );
      assert.equal(read.next_client_id, 3);
      assert.equal([...read.clients][0]?.sock.unlinkUNIX, false);
      assert.equal(read.services[0]?.socks[0]?.unlinkUNIX, true);
    });

    it('keepaliveRequired and other unknown keys are ignored, whatever they hold', () => {
      const document = plainDocument();
      const server = nodeAt(document, ['daemon', 'servers', 'virtlockd']);
      server.keepaliveRequired = true;
      for (const node of [
        document,
        server,
        nodeAt(server, ['clients', 0, 'privateData']),
        nodeAt(document, ['lockspaces', 0]),
      ]) {
        Object.assign(node, { 'x-a': null, 'x-b': [1, {}], 'x-c': 'x', later: 1e300 });
      }
      assert.equal(problem(document), 'none');
    });

    it('a client that has not registered is read', () => {
      const document = plainDocument();
      nodeAt(document, ['daemon', 'servers', 'virtlockd', 'clients', 0]).privateData = {
        restricted: false,
        ownerPid: 0,
        ownerId: 0,
        ownerName: '',
        ownerUUID: '00000000-0000-0000-0000-000000000000',
      };
      assert.equal(problem(document), 'none');
    });

    it('-1 stands for an unsigned keepaliveInterval', () => {
      const document = plainDocument();
      nodeAt(document, ['daemon', 'servers', 'virtlockd']).keepaliveInterval = -1;
      assert.equal(parseDocument(document).lockServer.keepaliveInterval, 4294967295);
    });

    it('a UUID may lack its dashes and be in capitals', () => {
      const document = plainDocument();
      nodeAt(document, ['daemon', 'servers', 'virtlockd', 'clients', 0, 'privateData']).ownerUUID =
        'A0010203040506070809' + '0A0B0C0D0E0F';
      assert.equal(
        [...parseDocument(document).lockServer.clients][0]?.privateData.ownerUUID,
        'a0010203-0405-0607-0809-0a0b0c0d0e0f',
      );
    });
  });

  it('may name the end of an owner that began while it was being described', () => {
    const resource = {
      ...{ name: '/disk', path: '/disk', fd: 9, lockHeld: true, flags: 0, owners: [300] },
      'x-holds': [{ id: 1, name: 'vm', uuid: NIL_UUID, since: 0, client: 1, ending: 7 }],
    };
    assert.equal(
      problem({
        ...plainDocument(),
        defaultLockspace: { resources: [resource] },
        'x-virtlockd': { restarts: 0, started: 0 },
      }),
      'none',
    );
  });

  it('that contradicts itself is refused', () => {
    const server = ['daemon', 'servers', 'virtlockd'];
    const changed = (change: (document: Node) => void): string => {
      const document = plainDocument();
      change(document);
      return problem(document);
    };
    assert.match(
      changed((document) => {
        nodeAt(document, server).max_clients = 999;
      }),
      /^daemon\.servers\.virtlockd: max_clients 999 is below/,
    );
    assert.match(
      changed((document) => {
        nodeAt(document, [...server, 'clients', 0]).auth_pending = true;
      }),
      /^daemon\.servers\.virtlockd\.clients\[0\]: auth_pending/,
    );
    assert.match(
      changed((document) => {
        const { clients } = nodeAt(document, server) as { clients: unknown[] };
        clients.push(structuredClone(clients[0]));
      }),
      /^daemon\.servers\.virtlockd: two clients have the same id/,
    );
  });

  describe('as text', () => {
    const json = (text: string): unknown => parseJson(Buffer.from(text, 'latin1'));

    it('keeps bytes as they are, and takes escapes beyond ASCII for their UTF-8 bytes', () => {
      assert.equal(json('"\xff\x80\xc3"'), '\xff\x80\xc3');
      assert.equal(json('"\\u00ff"'), '\xc3\xbf');
      assert.equal(json('"\\ud83d\\ude00"'), '\xf0\x9f\x98\x80');
      assert.equal(json('"\\u001F\\u001f\\u0041"'), '\x1f\x1fA');
      assert.equal(json('"\\\\u00ff \\/"'), '\\u00ff /');
      assert.equal(json('"\\\\\\u00ff"'), '\\\xc3\xbf');
    });

    it('says the same in ASCII alone, as C 11.3.0 wants it', () => {
      const document = Buffer.from('{"größe":"磁盘 💾 \\\\ \\"","plain":1}');
      const ascii = asciiDocument(document);
      assert.ok(ascii.every((byte) => byte < 0x80));
      assert.deepEqual(parseJson(ascii), parseJson(document));
    });

    it('that is no JSON is refused', () => {
      for (const text of [
        '',
        '{',
        '{"a":1,}',
        "{'a':1}",
        '{} x',
        '\xef\xbb\xbf{}',
        '// x\n{}',
        '"\n"',
        '"\\u12"',
        '"\\uzzzz"',
      ]) {
        assert.throws(() => json(text), DocumentError, text);
      }
    });

    it('has a magic only where that is a string', () => {
      for (const text of ['null', '[]', '1', '"x"', '{}', '{"magic":1}']) assert.equal(magicOf(json(text)), null);
      assert.equal(magicOf(json('{"magic":"7"}')), '7');
    });

    it('throws nothing but DocumentError on damaged documents', () => {
      fc.assert(
        fc.property(
          anyDocument,
          fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 }),
          (document, changes) => {
            const damaged = formatDocument(document);
            for (const [at, byte] of changes) damaged[at % damaged.length] = byte;
            try {
              parseDocument(parseJson(damaged));
            } catch (error) {
              assert.ok(error instanceof DocumentError);
            }
          },
        ),
        { numRuns: 500 },
      );
    });

    it('reports the place of a mistake after another one', () => {
      assert.match(
        problem({ magic: '1', daemon: { servers: { virtlockd: { min_workers: 'x' } } } }),
        /^daemon\.servers\.virtlockd\.min_workers:/,
      );
      assert.equal(problem(plainDocument()), 'none');
      assert.equal(problem({}), 'magic: missing');
    });
  });
});

describe('clients set aside', () => {
  it('are those with nothing under way, and read as the others', () => {
    fc.assert(
      fc.property(anyDocument, (document) => {
        const late = new Map<number, unknown>();
        const read = parseDocument(parseJson(formatDocument(document)), late);
        const clients = [...read.lockServer.clients, ...[...late.values()].map(parseLateClient)];
        const byId = (a: { readonly id: number }, b: { readonly id: number }): number => a.id - b.id;
        assert.deepEqual(clients.sort(byId), [...document.lockServer.clients].sort(byId));
        for (const client of read.lockServer.clients) {
          const twice = late.has(client.sock.fd);
          assert.ok(twice || client['x-received'] !== undefined || client['x-unsent'] !== undefined);
        }
        assert.deepEqual(read.adminServer, document.adminServer);
      }),
    );
  });

  it('name the place of what is wrong with them', () => {
    assert.throws(() => parseLateClient({ id: 1, auth: 'x' }), /^Error: auth: expected an integer$/);
    assert.throws(() => parseLateClient({}), /id: missing/);
    assert.throws(() => parseLateClient(null), /document: expected an object/);
  });
});

describe('the epoll of a document', () => {
  it('is a number or none', () => {
    assert.equal(epollOf({ 'x-virtlockd': { epoll: 7 } }), 7);
    for (const none of [null, 1, {}, { 'x-virtlockd': null }, { 'x-virtlockd': { epoll: '7' } }]) {
      assert.equal(epollOf(none), null);
    }
  });
});
