export * from '../../src/conformance/lab/wire.ts';
