/** Mocha's own listing, and one line of counts after it: a skipped test is not a passed one. */
const { reporters, Runner } = require('mocha');

module.exports = class Counting extends reporters.Spec {
  constructor(runner, options) {
    super(runner, options);
    const skipped = [];
    runner.on(Runner.constants.EVENT_TEST_PENDING, (test) => skipped.push(test.fullTitle()));
    this.skipped = skipped;
  }

  epilogue() {
    super.epilogue();
    const { passes, failures } = this.stats;
    for (const title of this.skipped) process.stdout.write(`skipped: ${title}\n`);
    process.stdout.write(`${passes} passed, ${failures} failed, ${this.skipped.length} skipped\n`);
  }
};
