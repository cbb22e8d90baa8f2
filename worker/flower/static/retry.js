/* Retry buttons on Flower's pages, and links from tasks to requests on the operations pages. */
(function () {
    "use strict";

    const own = document.currentScript.dataset;
    const POLL_MS = 1000;
    const WATCH_MS = 120000;
    const FINAL = ["SUCCESS", "FAILURE"];
    const prefix = own.retry.replace(/\/retry$/, "");

    function xsrfToken() {
        const cookie = document.cookie.split("; ").find((each) => each.startsWith("_xsrf="));
        return cookie ? decodeURIComponent(cookie.slice("_xsrf=".length)) : "";
    }

    async function post(tasks) {
        const body = new URLSearchParams(tasks.map((task) => ["task", task]));
        const response = await fetch(own.retry, {method: "POST", body, headers: {"X-XSRFToken": xsrfToken()}});
        const answer = await response.json();
        if (!response.ok) {
            throw new Error(response.status === 403 ? `${answer.message}. Reload this page.` : answer.message);
        }
        return answer.answers;
    }

    async function stateOf(answer) {
        const response = await fetch(`${prefix}/api/task/info/${encodeURIComponent(answer.task)}`);
        const task = response.ok ? await response.json() : {state: "UNKNOWN"};
        // Until a worker has received the retry, Flower still shows the failure.
        return task.received === answer.received ? "waiting" : task.state;
    }

    function show(lines, level) {
        let box = document.getElementById("retry-answers");
        if (!box) {
            box = document.createElement("div");
            box.id = "retry-answers";
            box.setAttribute("role", "status");
            const anchor = document.querySelector(".task-state-filters, .detail-page-header");
            anchor.insertAdjacentElement("afterend", box);
        }
        box.className = `alert alert-${level} py-2 my-3`;
        box.replaceChildren(...lines.map((line) => {
            const paragraph = document.createElement("p");
            paragraph.className = "mb-0";
            paragraph.textContent = line;
            return paragraph;
        }));
    }

    function describe(answers, states) {
        const lines = answers.filter((each) => each.result !== "retried" || answers.length === 1)
            .map((each) => `${each.task.slice(0, 8)}: ${each.message}`);
        const counts = {};
        states.forEach((state) => { counts[state] = (counts[state] || 0) + 1; });
        const parts = Object.entries(counts).map(([state, count]) => `${count} ${state}`);
        if (states.length) {
            lines.unshift(`Retried ${states.length} ${states.length === 1 ? "task" : "tasks"}: ${parts.join(", ")}.`);
        }
        return lines;
    }

    /* Retry tasks, show what becomes of them, and call `update` whenever that has changed. */
    async function retry(tasks, update) {
        let answers;
        show([`Retrying ${tasks.length} ${tasks.length === 1 ? "task" : "tasks"}…`], "info");
        try {
            answers = await post(tasks);
        } catch (error) {
            show([error.message], "danger");
            return;
        }
        const retried = answers.filter((each) => each.result === "retried");
        let states = retried.map(() => "waiting");
        let before = "";
        for (const end = Date.now() + WATCH_MS; ;) {
            const left = states.some((state) => !FINAL.includes(state));
            const failed = retried.length < answers.length || states.includes("FAILURE");
            show(describe(answers, states), left ? "info" : failed ? "warning" : "success");
            if (states.join() !== before) {
                before = states.join();
                update(!left, failed);
            }
            if (!left || Date.now() > end) {
                return;
            }
            await new Promise((resolve) => setTimeout(resolve, POLL_MS));
            states = await Promise.all(retried.map(stateOf));
        }
    }

    function linkTo(request) {
        const link = document.createElement("a");
        link.href = `${own.operations}/requests/${request}`;
        link.rel = "noreferrer";
        link.textContent = request;
        return link;
    }

    /* Turn the ids of requests in an element into links to the operations pages. */
    function addLinks(element, requests) {
        if (!own.operations || !requests.length) {
            return;
        }
        const ids = new RegExp(`(${requests.join("|")})`);
        const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
        const found = [];
        while (texts.nextNode()) {
            if (ids.test(texts.currentNode.data)) {
                found.push(texts.currentNode);
            }
        }
        found.forEach((node) => {
            const parts = node.data.split(ids);
            node.replaceWith(...parts.map((part, number) => number % 2 ? linkTo(part) : part));
        });
    }

    function addControls(parent) {
        const template = document.getElementById("retry-controls");
        if (template) {
            parent.append(template.content);
        }
        return document.getElementById("retry");
    }

    function onTaskPage(page) {
        const task = document.getElementById("taskid").textContent;
        const button = addControls(page.querySelector(".detail-actions"));
        if (button) {
            button.addEventListener("click", async () => {
                button.disabled = true;
                await retry([task], (ended, failed) => {
                    if (ended && !failed) {
                        location.reload();
                    }
                });
                button.disabled = false; // unless the page is reloaded: what went wrong stays visible
            });
        }
        const requests = own.requests.split(" ").filter(Boolean);
        page.querySelectorAll("dd").forEach((each) => addLinks(each, requests));
        page.querySelectorAll(".detail-code-wrapper").forEach((each) => {
            if (/^[0-9a-f]{24}: /.test(each.querySelector("code").textContent)) {
                each.closest(".detail-row").querySelector("dt").textContent = "Failed requests";
            }
        });
    }

    function onTasksPage(table) {
        const selected = new Set();
        const filters = document.querySelector(".task-state-filters");
        filters.classList.add("flex-wrap"); // on a phone, the buttons would be out of sight
        document.querySelector(".dataTables_info").classList.add("text-wrap");
        const button = addControls(filters);
        const columns = table.settings()[0].aoColumns.map((column) => column.mData);

        function refresh() {
            button.disabled = !selected.size;
            button.textContent = selected.size ? `Retry ${selected.size}` : "Retry";
        }

        function checkbox(row) {
            const box = document.createElement("input");
            box.type = "checkbox";
            box.className = "form-check-input me-2 retry-box";
            box.checked = selected.has(row.uuid);
            box.setAttribute("aria-label", `Select task ${row.uuid}`);
            box.addEventListener("change", () => {
                selected[box.checked ? "add" : "delete"](row.uuid);
                refresh();
            });
            return box;
        }

        /* Link a row's state to the page of its task: the task's id, Flower's own link, is out of sight on most screens. */
        function linkState(cell, uuid) {
            const link = document.createElement("a");
            link.href = `${prefix}/task/${encodeURIComponent(uuid)}`;
            link.title = "Show this task";
            link.append(...cell.childNodes);
            cell.append(link);
        }

        /* Show the whole reason of a failure, on several lines and without the name of the exception. */
        function showReason(cell) {
            // Python quotes a text that has an apostrophe, such as "MongoDB's", with quotation marks.
            const [, , reason] = /^RequestFailed\((['"])(.*)\1\)$/.exec(cell.textContent) || [];
            if (reason) {
                cell.textContent = reason.replace(/\\(['"\\])/g, "$1");
                cell.classList.remove("text-nowrap");
                cell.style.minWidth = "18rem";
            }
        }

        function decorate() {
            table.rows().every(function () {
                const row = this.data();
                const cells = this.node().cells;
                if (row.request && row.state === "FAILURE") {
                    cells[0].prepend(checkbox(row));
                    cells[0].classList.add("text-nowrap");
                } else {
                    selected.delete(row.uuid);
                }
                linkState(cells[columns.indexOf("state")], row.uuid);
                showReason(cells[columns.indexOf("exception")]);
                addLinks(cells[columns.indexOf("request")], row.request ? [row.request.slice(0, 24)] : []);
            });
            table.columns.adjust(); // checkboxes and links have changed the widths
            refresh();
        }

        table.on("draw.dt", decorate);
        document.getElementById("retry-all").addEventListener("click", () => {
            document.querySelectorAll(".retry-box").forEach((box) => {
                if (!box.checked) {
                    box.click();
                }
            });
        });
        button.addEventListener("click", () => {
            const tasks = [...selected];
            selected.clear();
            retry(tasks, () => table.draw(false));
        });
        decorate();
    }

    jQuery(() => {
        const page = document.getElementById("task-page");
        if (page) {
            onTaskPage(page);
        } else {
            onTasksPage(jQuery("#tasks-table").DataTable());
        }
    });
}());
