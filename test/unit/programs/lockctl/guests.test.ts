import assert from 'node:assert/strict';
import { parseStatus } from '../../../../src/programs/lockctl/health/guests.ts';

describe("libvirt's record of a running guest", () => {
  it('has its pid, name and state, its disks and leases', () => {
    const xml = `<!-- WARNING -->
<domstatus state='paused' reason='user' pid='4711'>
  <taint flag='high-privileges'/>
  <domain type='kvm' id='3'>
    <name>R&amp;D &lt;1&gt;</name>
    <devices><disk type='file'><source file='/images/a&apos;b.img' index='1'/></disk>
      <lease>
        <lockspace>R&amp;D</lockspace>
        <key>one</key>
        <target path='/leases/' offset='0'/>
      </lease>
    </devices>
    <uuid>7bdc25d1-694e-f984-782a-16f6f1710c1c</uuid>
  </domain>
</domstatus>`;
    const [pid, status] = parseStatus(xml) ?? [];
    assert.equal(pid, 4711);
    assert.deepEqual(status, {
      name: 'R&D <1>',
      state: 'paused',
      sources: ["/images/a'b.img"],
      leases: [{ lockspace: '/leases/R&D', key: 'one' }],
    });
  });

  it('is nothing else in the same directory', () => {
    assert.equal(parseStatus('<capabilities/>'), null);
    assert.equal(parseStatus("<domstatus state='running'/>"), null);
  });
});
