// The life of an app and of a group through marathon-node: `walk.js URL PROGRAM`.
//
// Prints what the test compares. Any answer that the library takes for an error ends it.
'use strict';

const assert = require('assert');
const Marathon = require('marathon-node');

const LIMIT_MS = 60000;
const [url, program] = process.argv.slice(2);
const marathon = Marathon(url);

// Waits until a condition gives something, and returns that; `look` is told what it sees meanwhile.
async function wait(what, condition) {
    const deadline = Date.now() + LIMIT_MS;
    let seen;
    while (Date.now() < deadline) {
        const found = await condition((look) => { seen = look; });
        if (found) {
            return found;
        }
        await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`waited in vain for ${what}; last: ${JSON.stringify(seen)}`);
}

async function ended(reply) {
    assert.ok(reply.deploymentId && reply.version, JSON.stringify(reply));
    await wait(`the end of ${reply.deploymentId}`, async () => {
        const deployments = await marathon.deployments.getList();
        return deployments.every((deployment) => deployment.id !== reply.deploymentId);
    });
}

function running(id, count) {
    return wait(`${count} tasks of ${id}`, async (look) => {
        const tasks = (await marathon.app.getTasks(id)).tasks;
        const deployments = await marathon.deployments.getList();
        look({tasks, deployments});
        const settled = tasks.length === count && tasks.every((task) => task.state === 'TASK_RUNNING');
        return settled && deployments.length === 0 && tasks;
    });
}

async function refused(promise, status) {
    try {
        await promise;
    } catch (error) {
        assert.strictEqual(error.statusCode, status, error.message);
        return error.error.message;
    }
    throw new Error('it was not refused');
}

async function main() {
    // Events come by themselves from here on.
    const seen = [];
    const types = ['event_stream_attached', 'deployment_success', 'status_update_event'];
    const events = marathon.events.createEventSource({eventType: types});
    types.forEach((type) => events.addEventListener(type, (event) => {
        const data = JSON.parse(event.data);
        assert.strictEqual(data.eventType, type);
        seen.push(data);
    }));
    await wait('the stream', () => seen.length > 0);

    assert.match(String(await marathon.misc.ping()), /pong/);
    const info = await marathon.info.get();
    assert.strictEqual((await marathon.leader.get()).leader, info.leader);

    const created = await marathon.app.create({
        id: '/node/web', cmd: program, cpus: 0.1, mem: 32, instances: 2,
        env: {SIMPLE_SERVICE_VERSION: '0.9'},
    });
    assert.strictEqual(created.deployments.length, 1);
    await running('/node/web', 2);
    assert.match(await refused(marathon.app.create({id: '/node/web', cmd: program}), 409), /already exists/);
    const listed = (await marathon.app.getList({embed: 'apps.tasks'})).apps;
    assert.deepStrictEqual(listed.map((app) => [app.id, app.tasks.length, app.tasksRunning]), [['/node/web', 2, 2]]);
    assert.deepStrictEqual((await marathon.app.getList({id: 'none'})).apps, []);

    await ended(await marathon.app.update('/node/web', {env: {SIMPLE_SERVICE_VERSION: '1.0'}}));
    const {app} = await marathon.app.getOne('/node/web');
    assert.strictEqual(app.env.SIMPLE_SERVICE_VERSION, '1.0');
    const before = (await running('/node/web', 2)).map((task) => task.id);
    await ended(await marathon.app.restart('/node/web'));
    const after = (await running('/node/web', 2)).map((task) => task.id);
    assert.ok(after.every((id) => !before.includes(id)));

    const {versions} = await marathon.app.getVersions('/node/web');
    const old = await marathon.app.getVersion('/node/web', versions[versions.length - 1]);
    assert.strictEqual(old.env.SIMPLE_SERVICE_VERSION, '0.9');

    const killed = await marathon.app.killTask('/node/web', after[0], false);
    assert.strictEqual(killed.task.id, after[0]);
    await wait('a new task', async () => (await running('/node/web', 2)).every((task) => task.id !== after[0]));
    await ended(await marathon.tasks.kill({ids: [after[1]]}, true));
    assert.strictEqual((await running('/node/web', 1)).length, 1);
    assert.strictEqual((await marathon.tasks.getList()).tasks.length, 1);

    // What no node has room for waits in the queue.
    await marathon.app.create({id: '/node/huge', cmd: 'sleep 1000', cpus: 9999});
    const queue = await wait('the queue', async () => {
        const items = (await marathon.queue.get()).queue;
        return items.length > 0 && items;
    });
    assert.deepStrictEqual(queue.map((item) => [item.app.id, item.count]), [['/node/huge', 1]]);
    await marathon.queue.resetDelay('/node/huge');
    assert.match(await refused(marathon.app.update('/node/huge', {instances: 2}), 409), /App is locked/);
    const deployment = (await marathon.deployments.getList())[0];
    assert.deepStrictEqual(deployment.affectedApps, ['/node/huge']);
    await ended(await marathon.deployments.destroy(deployment.id, false));
    assert.match(await refused(marathon.app.getOne('/node/huge'), 404), /does not exist/);

    await ended(await marathon.groups.create({
        id: '/shop', apps: [{id: 'web', cmd: 'sleep 1000', cpus: 0.1, mem: 32}],
    }));
    await running('/shop/web', 1);
    await ended(await marathon.groups.update('/shop', {scaleBy: 2}));
    await running('/shop/web', 2);
    const shop = await marathon.groups.getOne('/shop');
    assert.deepStrictEqual(shop.apps.map((part) => [part.id, part.instances]), [['/shop/web', 2]]);
    const groups = (await marathon.groups.getList()).groups.map((group) => group.id);

    await ended(await marathon.app.destroy('/node/web', false));
    await ended(await marathon.groups.destroy('/shop', true));
    assert.deepStrictEqual((await marathon.app.getList()).apps, []);
    await wait('the last events', () => seen.filter((event) => event.taskStatus === 'TASK_KILLED').length >= 9);
    events.close();
    console.log(JSON.stringify({groups, events: [...new Set(seen.map((event) => event.eventType))].sort()}));
}

main().catch((error) => {
    console.error(error.stack);
    process.exit(1);
});
