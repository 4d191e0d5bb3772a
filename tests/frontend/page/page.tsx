// A page as a frontend would build it: sign-in, projects, a live ingestion, a skill, a chat, the team and the plan.
import {
  authApi,
  billing,
  configure,
  ingestionWebSocket,
  isSignedIn,
  KijkoError,
  type Notification,
  type Project,
  projectApi,
  skillExecution,
  skillsApi,
  type Subscription,
  team,
  type TeamMember,
  useContextChat,
  websocket,
} from "@kijko/client";
import { type ChangeEvent, useEffect, useState } from "react";
import { createRoot } from "react-dom/client";

const text = (failure: unknown): string => (failure instanceof KijkoError ? `${failure.code}: ${failure.message}` : String(failure));

function App() {
  const [signedIn, setSignedIn] = useState(isSignedIn());
  const [error, setError] = useState("");
  useEffect(() => configure({ onSignedOut: () => setSignedIn(false) }), []);
  const attempt = (work: () => Promise<unknown>) => {
    setError("");
    work().catch((failure: unknown) => setError(text(failure)));
  };
  return (
    <>
      <p id="error">{error}</p>
      {signedIn ? <Home attempt={attempt} signOut={() => attempt(() => authApi.logout().finally(() => setSignedIn(false)))} /> : <SignIn attempt={attempt} done={() => setSignedIn(true)} />}
    </>
  );
}

type Attempt = (work: () => Promise<unknown>) => void;

function SignIn({ attempt, done }: { attempt: Attempt; done: () => void }) {
  const [email, setEmail] = useState("");
  const [password, setPassword] = useState("");
  return (
    <form onSubmit={(event) => event.preventDefault()}>
      <input id="email" onChange={(event) => setEmail(event.target.value)} />
      <input id="password" type="password" onChange={(event) => setPassword(event.target.value)} />
      <button id="signup" onClick={() => attempt(() => authApi.signup({ email, password, first_name: "Anna", last_name: "Vos" }).then(done))}>Sign up</button>
      <button id="signin" onClick={() => attempt(() => authApi.login({ email, password }).then(done))}>Sign in</button>
    </form>
  );
}

function Home({ attempt, signOut }: { attempt: Attempt; signOut: () => void }) {
  const [projects, setProjects] = useState<Project[]>();
  const [name, setName] = useState("");
  const [open, setOpen] = useState<Project>();
  const load = () => projectApi.listProjects({ pageSize: 100 }).then((page) => setProjects(page.data));
  useEffect(() => attempt(load), []);
  return (
    <>
      <button id="signout" onClick={signOut}>Sign out</button>
      <button id="reload" onClick={() => attempt(() => Promise.all([load(), load(), load(), load(), load()]))}>Reload</button>
      <input id="name" onChange={(event) => setName(event.target.value)} />
      <button id="create" onClick={() => attempt(() => projectApi.createProject({ name, type: "files" }).then(load))}>Create</button>
      <button id="many" onClick={() => attempt(() => createMany().then(load))}>Create many</button>
      {projects && (
        <ul id="projects">
          {projects.map((project) => (
            <li key={project.id} onClick={() => setOpen(project)}>
              {project.name} since {project.createdAt.getFullYear()}
            </li>
          ))}
        </ul>
      )}
      {open && <Ingestion key={open.id} project={open} attempt={attempt} />}
      {open && <Chat project={open} attempt={attempt} />}
      <Skill attempt={attempt} />
      <Organization attempt={attempt} />
      <News />
    </>
  );
}

/** Twenty projects, one after the other, as long as that takes. */
async function createMany() {
  for (let n = 1; n <= 20; n++) {
    await projectApi.createProject({ name: `Number ${n}`, type: "files" });
    document.title = `${n} of 20`;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function Ingestion({ project, attempt }: { project: Project; attempt: Attempt }) {
  const [sent, setSent] = useState("");
  const [progress, setProgress] = useState("");
  const [status, setStatus] = useState("");
  const [result, setResult] = useState("");
  const upload = (event: ChangeEvent<HTMLInputElement>) => {
    const files = [...(event.target.files ?? [])];
    attempt(async () => {
      const { uploaded } = await projectApi.uploadFiles(files, project.id, { onProgress: ({ sent, total }) => setSent(`${Math.round((100 * sent) / total)} %`) });
      setSent((before) => `${before}, ${uploaded.length} stored`);
    });
  };
  const start = async () => {
    await projectApi.startIngestion(project.id);
    await ingestionWebSocket.connect(project.id, {
      onStatus: setStatus,
      onPhase: (data) => setProgress((before) => `${before} ${data.phase}`),
      onComplete: (data) => setResult((before) => `${before}${data.project.name} ${data.project.status} with ${data.finalMetrics.totalFiles} file, changed in ${data.project.updatedAt.getFullYear()}`),
      onError: (data) => setResult(data.errorMessage),
    });
  };
  return (
    <>
      <input id="file" type="file" onChange={upload} />
      <p id="sent">{sent}</p>
      <button id="ingest" onClick={() => attempt(start)}>Ingest</button>
      <p id="progress">{progress}</p>
      <p id="socket">{status}</p>
      <p id="result">{result}</p>
    </>
  );
}

function Chat({ project, attempt }: { project: Project; attempt: Attempt }) {
  const [answer, setAnswer] = useState("");
  const ask = async () => {
    for await (const event of useContextChat.sendMessageStream(project.id, { message: "What is this?" })) {
      if (event.event === "text") {
        setAnswer((before) => before + event.data.content);
      } else if (event.event === "done") {
        setAnswer((before) => `${before} at ${event.data.message.timestamp.getFullYear()}`);
      } else if (event.event === "error") {
        throw new Error(event.data.message);
      }
    }
  };
  return (
    <>
      <button id="ask" onClick={() => attempt(ask)}>Ask</button>
      <p id="answer">{answer}</p>
    </>
  );
}

function Skill({ attempt }: { attempt: Attempt }) {
  const [output, setOutput] = useState("");
  const run = async () => {
    const skill = await skillsApi.createSkill({ name: "Summary", description: "Says what code does", promptTemplate: "Say what this code does: {{code}}" });
    for await (const event of skillExecution.executeSkillStream(skill.id, { inputs: { code: "1 + 1" } })) {
      if (event.event === "text") {
        setOutput((before) => before + event.data.content);
      } else if (event.event === "done") {
        setOutput((before) => `${before} ${event.data.result.status}`);
      }
    }
  };
  return (
    <>
      <button id="run" onClick={() => attempt(run)}>Run</button>
      <p id="output">{output}</p>
    </>
  );
}

function Organization({ attempt }: { attempt: Attempt }) {
  const [members, setMembers] = useState<TeamMember[]>([]);
  const [subscription, setSubscription] = useState<Subscription>();
  return (
    <>
      <button id="team" onClick={() => attempt(() => team.listTeamMembers().then(setMembers))}>Team</button>
      <ul id="members">{members.map((member) => <li key={member.id}>{`${member.email} ${member.role} since ${member.joinedAt?.getFullYear()}`}</li>)}</ul>
      <button id="invite" onClick={() => attempt(() => team.inviteMembers({ emails: ["ben@example.org"], role: "member" }))}>Invite</button>
      <button id="billing" onClick={() => attempt(() => billing.getSubscription().then(setSubscription))}>Billing</button>
      <p id="plan">{subscription && `${subscription.planId} since ${subscription.createdAt.getFullYear()}`}</p>
    </>
  );
}

function News() {
  const [news, setNews] = useState<Notification[]>([]);
  const [status, setStatus] = useState("");
  useEffect(() => {
    const socket = websocket.openGeneral();
    socket.onStatus(setStatus);
    socket.on("notification", (event) => setNews((before) => [...before, event.data]));
    void socket.connect().then(() => setStatus(socket.status));
    return () => socket.disconnect();
  }, []);
  return (
    <>
      <p id="status">{status}</p>
      <ul id="news">{news.map((notification, n) => <li key={n}>{notification.title}</li>)}</ul>
    </>
  );
}

// The console of the page, for sockets that no screen opens.
Object.assign(window, { ingestionWebSocket });

createRoot(document.getElementById("root")!).render(<App />);
